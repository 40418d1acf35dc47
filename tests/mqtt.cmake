# The MQTT codec, the schemas and framing of proto/, and base/.
set(mqtt_support unit/test_mqtt_support.c)
wp_unit_test(test_mqtt_roundtrip SOURCES unit/test_mqtt_roundtrip.c ${mqtt_support} LINK wp_mqtt)
