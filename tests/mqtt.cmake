# base/, the schemas and framing of proto/, and the MQTT codec.
foreach(part IN ITEMS arena buffer error histogram log metric)
  wp_unit_test(test_base_${part} SOURCES unit/test_base_${part}.c LINK wp_base m)
endforeach()
foreach(part IN ITEMS address frame schema)
  wp_unit_test(test_proto_${part} SOURCES unit/test_proto_${part}.c LINK wp_proto)
endforeach()

set(mqtt_support unit/test_mqtt_support.c)
foreach(part IN ITEMS decode encode frame roundtrip tables text)
  wp_unit_test(test_mqtt_${part} SOURCES unit/test_mqtt_${part}.c ${mqtt_support} LINK wp_mqtt)
endforeach()
