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

# Seeds come from tests/fuzz/make_corpus.py; the other files of a corpus were found by fuzzing.
wp_fuzz(fuzz_mqtt CORPUS tests/fuzz/corpus/mqtt SOURCES fuzz/fuzz_mqtt.c ${mqtt_support} LINK wp_mqtt)
wp_fuzz(fuzz_frame CORPUS tests/fuzz/corpus/frame SOURCES fuzz/fuzz_frame.c LINK wp_proto)
foreach(schema IN ITEMS envelope fabric command record)
  wp_fuzz(fuzz_schema_${schema} CORPUS tests/fuzz/corpus/schema_${schema}
    SOURCES fuzz/fuzz_schema_${schema}.c fuzz/fuzz_schema.c LINK wp_proto)
endforeach()
