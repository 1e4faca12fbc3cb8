/* What the C functions share: the threads of the OpenMP that torch itself uses, whose entry points
   come in as pointers, so that a process never has two pools of threads. */

#include <stdint.h>
#include <stdlib.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

struct pool {
    void (*parallel)(void (*work)(void *), void *job, unsigned threads, unsigned flags);
    int (*thread)(void);
    int (*threads)(void);
    void (*barrier)(void);
};
