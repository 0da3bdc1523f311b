// AVX2: bytes widened to 16 bits, two components of eight rows a register. PMADDWD multiplies and adds pairs in 32 bits, so it
// is exact; PMADDUBSW, which takes bytes, would saturate.
#include "hamming/dot/multiplier.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

#include <cstring>

#include "hamming/kernels/target.h"

PYHASH_BEGIN_TARGET(PYHASH_AVX2_TARGET)

namespace pyhash {
namespace avx2 {
namespace {

constexpr size_t kPairBytes = 4;     // two components of one row
constexpr size_t kRegisterRows = 8;  // rows a register
constexpr size_t kPartRows = 2 * kRegisterRows;
constexpr size_t kQueries = 4;  // at once: eight sums, two registers of rows, one of the query

inline size_t pairs_of(size_t dim) { return (dim + 1) / 2; }
size_t bytes(size_t dim) { return pairs_of(dim) * kPairBytes; }

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline __m256i widened(const int8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

int32_t dot(const int8_t* a, const int8_t* b, size_t dim) {
    __m256i sums_i32x8 = _mm256_setzero_si256();
    size_t d = 0;
    for (; d + 16 <= dim; d += 16)
        sums_i32x8 = _mm256_add_epi32(sums_i32x8, _mm256_madd_epi16(widened(a + d), widened(b + d)));
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sums_i32x8), _mm256_extracti128_si256(sums_i32x8, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
    int32_t sum = _mm_cvtsi128_si32(half);
    for (; d < dim; ++d) sum += int32_t{a[d]} * b[d];
    return sum;
}

inline void lay(const int8_t* row, size_t dim, uint8_t* laid, size_t stride) {
    for (size_t p = 0; p < pairs_of(dim); ++p) {
        const int16_t pair[2] = {row[2 * p], 2 * p + 1 < dim ? row[2 * p + 1] : int8_t{0}};
        std::memcpy(laid + p * stride, pair, kPairBytes);
    }
}

// tile[(pair * 64 + row) * 4]
void lay_rows(const int8_t* rows, size_t n, size_t dim, uint8_t* tile) {
    if (n < kLanes) std::memset(tile, 0, bytes(dim) * kLanes);
    for (size_t row = 0; row < n; ++row) lay(rows + row * dim, dim, tile + row * kPairBytes, kLanes * kPairBytes);
}

void lay_query(const int8_t* query, size_t dim, uint8_t* laid) { lay(query, dim, laid, kPairBytes); }

template <size_t N>
inline void multiply_few(const uint8_t* part, const uint8_t* queries, size_t dim, int32_t* dots) {
    const size_t stride = bytes(dim);
    __m256i sums[N][2];
    PYHASH_UNROLL
    for (size_t q = 0; q < N; ++q) sums[q][0] = sums[q][1] = _mm256_setzero_si256();
    for (size_t p = 0; p < pairs_of(dim); ++p) {
        const __m256i first = load(part + p * kLanes * kPairBytes);
        const __m256i second = load(part + p * kLanes * kPairBytes + sizeof(__m256i));
        PYHASH_UNROLL
        for (size_t q = 0; q < N; ++q) {
            int32_t pair;
            std::memcpy(&pair, queries + q * stride + p * kPairBytes, kPairBytes);
            const __m256i pair_i16x16 = _mm256_set1_epi32(pair);
            sums[q][0] = _mm256_add_epi32(sums[q][0], _mm256_madd_epi16(first, pair_i16x16));
            sums[q][1] = _mm256_add_epi32(sums[q][1], _mm256_madd_epi16(second, pair_i16x16));
        }
    }
    PYHASH_UNROLL
    for (size_t q = 0; q < N; ++q)
        PYHASH_UNROLL
        for (size_t r = 0; r < 2; ++r)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(dots + q * kLanes + r * kRegisterRows), sums[q][r]);
}

void multiply(const uint8_t* tile, const uint8_t* queries, size_t n_queries, size_t dim, int32_t* dots) {
    size_t q = 0;
    for (; q + kQueries <= n_queries; q += kQueries)
        for (size_t row = 0; row < kLanes; row += kPartRows)
            multiply_few<kQueries>(tile + row * kPairBytes, queries + q * bytes(dim), dim, dots + q * kLanes + row);
    for (; q < n_queries; ++q)
        for (size_t row = 0; row < kLanes; row += kPartRows)
            multiply_few<1>(tile + row * kPairBytes, queries + q * bytes(dim), dim, dots + q * kLanes + row);
}

uint64_t reaching(const int32_t* dots, const float* scales, float least) {
    uint64_t lanes = 0;
    for (size_t i = 0; i < kLanes; i += kRegisterRows) {
        const __m256 reached = _mm256_mul_ps(_mm256_cvtepi32_ps(load(dots + i)), _mm256_loadu_ps(scales + i));
        const int bits = _mm256_movemask_ps(_mm256_cmp_ps(reached, _mm256_set1_ps(least), _CMP_GE_OQ));
        lanes |= static_cast<uint64_t>(static_cast<uint32_t>(bits)) << i;
    }
    return lanes;
}

}  // namespace
}  // namespace avx2

const Multiplier kAvx2Multiplier = {"avx2",         kAvx2Target,     avx2::dot,      avx2::bytes,   avx2::bytes,
                                    avx2::lay_rows, avx2::lay_query, avx2::multiply, avx2::reaching};

}  // namespace pyhash

PYHASH_END_TARGET

#endif
