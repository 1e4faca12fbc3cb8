/* Common definitions of the C functions: the thread pool, and vectors of 16 values of a map.

   The threads are those of the OpenMP library that torch uses. Its entry points are passed as
   pointers, so that a process never has two thread pools. The vectors are the vector extensions
   that both gcc and clang support. */

#include <stdint.h>
#include <stdlib.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

/* Each file is compiled once for each instruction set level that it supports. LEVEL is generic,
   x86_64_v3, avx512 or avx512_bf16. It is a suffix of the function names, as in
   norm_forward_avx512. */
#define JOINED_(name, level) name##_##level
#define JOINED(name, level) JOINED_(name, level)
#define NAMED(name) JOINED(name, LEVEL)
#define EXPORTED __attribute__((visibility("default")))

#define INLINE static inline __attribute__((always_inline))
#define LANES 16 /* values in one vector */

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

struct pool {
    void (*parallel)(void (*work)(void *), void *job, unsigned threads, unsigned flags);
    int (*thread)(void);
    int (*threads)(void);
    void (*barrier)(void);
};

typedef float lanes __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef float floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(32), aligned(2), may_alias));

#ifdef __AVX512F__ /* the same as below, in one or two instructions */
INLINE lanes widen(halves narrow) {
    return (lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)narrow), 16);
}
#else
INLINE lanes widen(halves narrow) {
    return (lanes)(__builtin_convertvector(narrow, words) << 16);
}
#endif

#ifdef __AVX512BF16__
INLINE halves narrow(lanes wide) { return (halves)_mm512_cvtneps_pbh((__m512)wide); }
#else
INLINE halves narrow(lanes wide) { /* rounds to nearest, ties to even; NaN stays NaN */
    words bits = (words)wide;
    words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    words broken = (words)(wide != wide);
    return __builtin_convertvector((rounded & ~broken) | (0x7fc0 & broken), halves);
}
#endif

/* Loads 16 values of a map. If half, the map holds bfloat16, otherwise float. */
INLINE lanes get(const void *map, int64_t at, int half) {
    if (half) return widen(*(const halves *)((const uint16_t *)map + at));
    return *(const floats *)((const float *)map + at);
}

INLINE void put(void *map, int64_t at, lanes values, int half) {
    if (half) *(halves *)((uint16_t *)map + at) = narrow(values);
    else *(floats *)((float *)map + at) = values;
}
