# The MQTT codec, the schemas and framing of proto/, and base/.
set(mqtt_support unit/test_mqtt_support.c)
wp_unit_test(test_mqtt_roundtrip SOURCES unit/test_mqtt_roundtrip.c ${mqtt_support} LINK wp_mqtt)
wp_unit_test(test_mqtt_frame SOURCES unit/test_mqtt_frame.c ${mqtt_support} LINK wp_mqtt)
wp_unit_test(test_mqtt_decode SOURCES unit/test_mqtt_decode.c ${mqtt_support} LINK wp_mqtt)
wp_unit_test(test_mqtt_encode SOURCES unit/test_mqtt_encode.c LINK wp_mqtt)
wp_unit_test(test_mqtt_tables SOURCES unit/test_mqtt_tables.c ${mqtt_support} LINK wp_mqtt)
wp_unit_test(test_mqtt_text SOURCES unit/test_mqtt_text.c LINK wp_mqtt)
