// AVX2: floats 32 columns at a time; the other numbers as the scalar kernel packs them.
#include "hamming/kernels/target.h"
#include "hamming/pack/pack.h"
#include "hamming/pack/sse2.h"

#if (defined(__x86_64__) || defined(_M_X64)) && defined(PYHASH_VECTOR_EXTENSIONS)

#include <immintrin.h>

PYHASH_BEGIN_TARGET(PYHASH_AVX2_TARGET)

namespace pyhash {
namespace {

inline __m256i above_u32x8(__m256 x, const float* t) {
    return _mm256_castps_si256(_mm256_cmp_ps(x, _mm256_loadu_ps(t), _CMP_GT_OQ));
}

// Limits of the second tile lie `step` behind those of the first.
int pack_pairs(const float* x, const float* t, size_t step, uint8_t* code, size_t n_pairs) {
    // Packing interleaves the 128-bit halves: these two put the columns back in order, each eight back to front.
    const __m256i quads = _mm256_setr_epi32(4, 0, 5, 1, 6, 2, 7, 3);
    const __m256i backwards = _mm256_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12,  //
                                               3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    __m256 nan = _mm256_setzero_ps();
    for (; n_pairs > 0; --n_pairs, x += 2 * kTileColumns, t += 2 * step, code += 4) {
        const __m256 a = _mm256_loadu_ps(x);
        const __m256 b = _mm256_loadu_ps(x + 8);
        const __m256 c = _mm256_loadu_ps(x + 16);
        const __m256 d = _mm256_loadu_ps(x + 24);
        const __m256i ab = _mm256_packs_epi32(above_u32x8(a, t), above_u32x8(b, t + 8));
        const __m256i cd = _mm256_packs_epi32(above_u32x8(c, t + step), above_u32x8(d, t + step + 8));
        const __m256i marks =
            _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(_mm256_packs_epi16(ab, cd), backwards), quads);
        const int bits = _mm256_movemask_epi8(marks);
        __builtin_memcpy(code, &bits, 4);
        nan = _mm256_or_ps(nan, _mm256_or_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q), _mm256_cmp_ps(c, d, _CMP_UNORD_Q)));
    }
    return _mm256_movemask_ps(nan);
}

int pack_f32(const float* x, const float* t, size_t step, uint8_t* code, size_t n) {
    const size_t paired = n / 2 * 2;
    int nan = pack_pairs(x, t, step, code, n / 2);
    if (paired != n) nan |= kScalarPack.f32(x + paired * kTileColumns, t + paired * step, step, code + 2 * paired, 1);
    return nan;
}

// Chosen at each call, so that no order of initialisation matters.
int pack_f16(const uint16_t* x, const uint16_t* t, size_t step, uint8_t* code, size_t n) { return kScalarPack.f16(x, t, step, code, n); }
int pack_f64(const double* x, const double* t, size_t step, uint8_t* code, size_t n) { return kScalarPack.f64(x, t, step, code, n); }
int pack_i8(const int8_t* x, const int16_t* t, size_t step, uint8_t* code, size_t n) { return kScalarPack.i8(x, t, step, code, n); }
int pack_u8(const uint8_t* x, const int16_t* t, size_t step, uint8_t* code, size_t n) { return kScalarPack.u8(x, t, step, code, n); }

}  // namespace
}  // namespace pyhash

PYHASH_END_TARGET

namespace pyhash {
const PackKernel kAvx2Pack = {"avx2", kAvx2Target, pack_f16, pack_f32, pack_f64, pack_i8, pack_u8};
}

#endif
