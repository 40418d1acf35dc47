/* The histogram's promise: a quantile is at least the true one and at most 1/32 above it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/histogram.h"
#include "base/prng.h"

#define SAMPLE_COUNT 20000u

static const double quantiles[] = {0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0};

static int order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Compares all quantiles with those of the sorted samples. */
static void samples_check(uint64_t *samples, size_t count)
{
    struct wp_histogram *histogram = malloc(sizeof *histogram);
    assert_non_null(histogram);
    wp_histogram_init(histogram);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        wp_histogram_record(histogram, samples[i]);
        sum += samples[i];
    }
    qsort(samples, count, sizeof *samples, order);
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        size_t rank = (size_t)ceil(quantiles[i] * (double)count);
        uint64_t exact = samples[rank > 0 ? rank - 1 : 0];
        uint64_t told = wp_histogram_quantile(histogram, quantiles[i]);
        assert_true(told >= exact);
        assert_true(told <= exact + exact / 32);
    }
    assert_int_equal(histogram->count, count);
    assert_int_equal(histogram->sum, sum);
    assert_int_equal(histogram->min, samples[0]);
    assert_int_equal(histogram->max, samples[count - 1]);
    assert_int_equal(wp_histogram_quantile(histogram, 1.0), samples[count - 1]);
    free(histogram);
}

static void test_quantiles_of_random_samples(void **state)
{
    (void)state;
    uint64_t *samples = malloc(SAMPLE_COUNT * sizeof *samples);
    struct wp_prng prng;
    assert_non_null(samples);
    wp_prng_init(&prng, 11);
    for (unsigned bits = 1; bits <= 42; bits++) {
        for (size_t i = 0; i < SAMPLE_COUNT; i++) {
            samples[i] = wp_prng_next(&prng) >> (64 - bits);
        }
        samples_check(samples, SAMPLE_COUNT);
        for (size_t i = 0; i < SAMPLE_COUNT; i++) { /* every magnitude alike */
            samples[i] = wp_prng_next(&prng) >> (64 - bits) >> wp_prng_below(&prng, bits);
        }
        samples_check(samples, SAMPLE_COUNT);
    }
    free(samples);
}

static void test_one_value_is_every_quantile(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift < 64; shift++) {
        for (int step = -1; step <= 1; step++) {
            uint64_t value = (1ull << shift) + (uint64_t)(int64_t)step;
            struct wp_histogram *histogram = malloc(sizeof *histogram);
            assert_non_null(histogram);
            wp_histogram_init(histogram);
            wp_histogram_record(histogram, value);
            for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
                assert_int_equal(wp_histogram_quantile(histogram, quantiles[i]), value);
            }
            free(histogram);
        }
    }
}

static void test_small_values_are_exact(void **state)
{
    (void)state;
    struct wp_histogram *histogram = malloc(sizeof *histogram);
    assert_non_null(histogram);
    wp_histogram_init(histogram);
    assert_int_equal(wp_histogram_quantile(histogram, 0.5), 0);
    for (uint64_t value = 1; value <= 50; value++) {
        wp_histogram_record(histogram, value);
    }
    for (unsigned i = 1; i <= 50; i++) {
        assert_int_equal(wp_histogram_quantile(histogram, i / 50.0), i);
    }
    free(histogram);
}

static void test_merging_is_recording_both(void **state)
{
    (void)state;
    struct wp_histogram *parts = calloc(3, sizeof *parts);
    struct wp_prng prng;
    assert_non_null(parts);
    for (unsigned i = 0; i < 3; i++) {
        wp_histogram_init(&parts[i]);
    }
    wp_histogram_merge(&parts[0], &parts[1]);
    assert_int_equal(wp_histogram_quantile(&parts[0], 1.0), 0);
    wp_prng_init(&prng, 12);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t value = wp_prng_next(&prng) >> wp_prng_below(&prng, 60);
        wp_histogram_record(&parts[i % 2], value);
        wp_histogram_record(&parts[2], value);
    }
    wp_histogram_merge(&parts[0], &parts[1]);
    assert_memory_equal(&parts[0], &parts[2], sizeof parts[0]);
    free(parts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles_of_random_samples),
        cmocka_unit_test(test_one_value_is_every_quantile),
        cmocka_unit_test(test_small_values_are_exact),
        cmocka_unit_test(test_merging_is_recording_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
