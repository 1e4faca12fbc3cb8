/* What the C functions for float32 share: vectors as wide as the processor's, and the matrix product
   of a weight gradient. */

#include "common.h"

#include <string.h>

#ifdef __AVX512F__
#define WIDE 16 /* values in one vector */
#else
#define WIDE 8
#endif
#define COLUMNS (2 * WIDE)   /* columns of a panel of the second factor: two vectors */
#define BACK_ROWS (WIDE / 2) /* rows of a weight gradient's product at a time */
#define PAGE 4096            /* bytes */

typedef float vec __attribute__((vector_size(4 * WIDE)));
typedef float loose __attribute__((vector_size(4 * WIDE), aligned(4), may_alias));
typedef float loose_half __attribute__((vector_size(2 * WIDE), aligned(4), may_alias));

INLINE int64_t up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }
INLINE char *on_page(char *place) { return (char *)up((int64_t)place, PAGE); }
INLINE vec load(const float *place) { return *(const loose *)place; }
INLINE void store(float *place, vec values) { *(loose *)place = values; }

/* Stores one half of a vector at a place, and the other half at another place. */
INLINE void store_halves(float *first, float *second, vec values) {
    loose_half halves[2];
    memcpy(halves, &values, sizeof halves);
    *(loose_half *)first = halves[0];
    *(loose_half *)second = halves[1];
}

/* Adds the products over `count` places to du, for BACK_ROWS output channels and COLUMNS input
   channels. */
INLINE void multiply_back(const float *g, const float *v, int64_t count, float *du) {
    vec sums[BACK_ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < BACK_ROWS; r++) {
        sums[r][0] = load(du + r * COLUMNS);
        sums[r][1] = load(du + r * COLUMNS + WIDE);
    }
    for (int64_t i = 0; i < count; i++, v += COLUMNS, g += BACK_ROWS) {
        vec a = load(v), b = load(v + WIDE);
#pragma GCC unroll 8
        for (int r = 0; r < BACK_ROWS; r++) {
            vec factor = g[r] - (vec){0};
            sums[r][0] += factor * a;
            sums[r][1] += factor * b;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < BACK_ROWS; r++) {
        store(du + r * COLUMNS, sums[r][0]);
        store(du + r * COLUMNS + WIDE, sums[r][1]);
    }
}
