// Tiles of floats and doubles in SSE2.
#pragma once

#include <cstdint>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define PYHASH_SSE2 1

namespace pyhash {
namespace sse2 {

// Sixteen comparisons of 32 bits each, four a register, the last column of each four first: movemask then puts the first one in
// the highest bit.
inline void bits_of(__m128i a, __m128i b, __m128i c, __m128i d, uint8_t* code) {
    const int bits = _mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(b, a), _mm_packs_epi32(d, c)));
    code[0] = static_cast<uint8_t>(bits);
    code[1] = static_cast<uint8_t>(bits >> 8);
}

inline __m128i above(const float* x, const float* t) {
    const __m128 marks = _mm_cmpgt_ps(_mm_loadu_ps(x), _mm_loadu_ps(t));
    return _mm_castps_si128(_mm_shuffle_ps(marks, marks, _MM_SHUFFLE(0, 1, 2, 3)));
}

inline __m128i above(const double* x, const double* t) {
    const __m128 first = _mm_castpd_ps(_mm_cmpgt_pd(_mm_loadu_pd(x), _mm_loadu_pd(t)));
    const __m128 last = _mm_castpd_ps(_mm_cmpgt_pd(_mm_loadu_pd(x + 2), _mm_loadu_pd(t + 2)));
    return _mm_castps_si128(_mm_shuffle_ps(last, first, _MM_SHUFFLE(0, 2, 0, 2)));
}

inline int pack_tile(const float* x, const float* t, uint8_t* code) {
    bits_of(above(x, t), above(x + 4, t + 4), above(x + 8, t + 8), above(x + 12, t + 12), code);
    const __m128 first = _mm_cmpunord_ps(_mm_loadu_ps(x), _mm_loadu_ps(x + 4));
    return _mm_movemask_ps(_mm_or_ps(first, _mm_cmpunord_ps(_mm_loadu_ps(x + 8), _mm_loadu_ps(x + 12))));
}

inline int pack_tile(const double* x, const double* t, uint8_t* code) {
    bits_of(above(x, t), above(x + 4, t + 4), above(x + 8, t + 8), above(x + 12, t + 12), code);
    __m128d nan = _mm_setzero_pd();
    for (int i = 0; i < 16; i += 4) nan = _mm_or_pd(nan, _mm_cmpunord_pd(_mm_loadu_pd(x + i), _mm_loadu_pd(x + i + 2)));
    return _mm_movemask_pd(nan);
}

}  // namespace sse2
}  // namespace pyhash
#endif
