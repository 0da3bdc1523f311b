// AVX2: four codes a register; bits are counted by looking up each half byte (Mula, Kurz, Lemire: "Faster population counts
// using AVX2 instructions", 2018), summed as bytes and widened once.
#include "hamming/dot/multiplier.h"
#include "hamming/kernels/kernel.h"
#include "hamming/kernels/target.h"
#include "hamming/kernels/walk.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

PYHASH_BEGIN_TARGET(PYHASH_AVX2_TARGET)

namespace pyhash {
namespace avx2 {
namespace {

constexpr size_t kPerRegister = 4;                // codes
constexpr size_t kRegisters = 4;                  // of one word, worked on together
constexpr size_t kPart = kPerRegister * kRegisters;  // codes worked on together: all that sixteen registers hold
constexpr size_t kParts = kLanes / kPart;
// A byte counts at most 8 a word: 31 words make 248 < 256, so byte sums are widened every 31 words.
constexpr size_t kWordsPerWidening = 31;

inline __m256i count_bytes(__m256i x_u8x32) {
    const __m256i bits_of_nibble = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                                    0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(0x0f);
    return _mm256_add_epi8(_mm256_shuffle_epi8(bits_of_nibble, _mm256_and_si256(x_u8x32, low)),
                           _mm256_shuffle_epi8(bits_of_nibble, _mm256_and_si256(_mm256_srli_epi16(x_u8x32, 4), low)));
}

inline __m256i load(const uint64_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// Distances of sixteen codes: 64-bit counters, so no metric can overflow them.
struct Distances {
    __m256i u64x4[kRegisters];
};

template <size_t Words>
inline Distances measure(const uint64_t* part, const Probe& probe) {
    const size_t n_words = Words != 0 ? Words : probe.n_words;
    Distances d;
    for (size_t r = 0; r < kRegisters; ++r) d.u64x4[r] = _mm256_setzero_si256();
    for (size_t w0 = 0; w0 < n_words; w0 += kWordsPerWidening) {
        const size_t w1 = w0 + kWordsPerWidening < n_words ? w0 + kWordsPerWidening : n_words;
        __m256i bytes_u8x32[kRegisters];
        for (size_t r = 0; r < kRegisters; ++r) bytes_u8x32[r] = _mm256_setzero_si256();
        for (size_t w = w0; w < w1; ++w) {
            const __m256i q = _mm256_set1_epi64x(static_cast<long long>(probe.query[w]));
            for (size_t r = 0; r < kRegisters; ++r)
                bytes_u8x32[r] = _mm256_add_epi8(
                    bytes_u8x32[r], count_bytes(_mm256_xor_si256(q, load(part + w * kLanes + r * kPerRegister))));
        }
        for (size_t r = 0; r < kRegisters; ++r)
            d.u64x4[r] = _mm256_add_epi64(d.u64x4[r], _mm256_sad_epu8(bytes_u8x32[r], _mm256_setzero_si256()));
    }
    return d;
}

inline Distances measure_terms(const uint64_t* part, const Probe& probe) {
    Distances d;
    for (size_t r = 0; r < kRegisters; ++r) d.u64x4[r] = _mm256_setzero_si256();
    for (size_t t = 0; t < probe.n_terms; ++t) {
        const Term& term = probe.terms[t];
        const __m256i q = _mm256_set1_epi64x(static_cast<long long>(probe.query[term.word]));
        const __m256i mask = _mm256_set1_epi64x(static_cast<long long>(term.mask));
        const __m256i weight = _mm256_set1_epi64x(term.weight);
        for (size_t r = 0; r < kRegisters; ++r) {
            const __m256i difference = _mm256_xor_si256(q, load(part + term.word * kLanes + r * kPerRegister));
            const __m256i bits =
                _mm256_sad_epu8(count_bytes(_mm256_and_si256(difference, mask)), _mm256_setzero_si256());
            d.u64x4[r] = _mm256_add_epi64(d.u64x4[r], _mm256_mul_epu32(bits, weight));
        }
    }
    return d;
}

constexpr size_t kTerms = ~static_cast<size_t>(0);  // stands for "by terms" where a number of words is asked for

template <size_t Words>
inline Distances measure_part(const uint64_t* part, const Probe& probe) {
    if constexpr (Words == kTerms)
        return measure_terms(part, probe);
    else
        return measure<Words>(part, probe);
}

template <size_t Words>
void describe(const uint64_t* block, const Probe& probe, __m256i above_u64x4, Hit& hit) {
    const __m256i even_u32x8 = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    uint64_t lanes = 0;
    for (size_t p = 0; p < kParts; ++p) {
        const Distances d = measure_part<Words>(block + p * kPart, probe);
        for (size_t r = 0; r < kRegisters; ++r) {
            const size_t lane = p * kPart + r * kPerRegister;
            const __m256i near = _mm256_cmpgt_epi64(above_u64x4, d.u64x4[r]);
            lanes |= static_cast<uint64_t>(_mm256_movemask_pd(_mm256_castsi256_pd(near))) << lane;
            _mm_store_si128(reinterpret_cast<__m128i*>(hit.distances + lane),
                            _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(d.u64x4[r], even_u32x8)));
        }
    }
    hit.lanes = lanes;
}

template <size_t Words>
size_t find(const uint64_t* blocks, size_t begin, size_t end, const Probe& probe, uint32_t bound, Hit& hit) {
    const size_t stride = probe.n_words * kLanes;
    const __m256i above_u64x4 = _mm256_set1_epi64x(static_cast<long long>(bound) + 1);
    for (size_t b = begin; b < end; ++b) {
        const uint64_t* block = blocks + b * stride;
        __m256i least = _mm256_set1_epi64x(-1);
        for (size_t p = 0; p < kParts; ++p) {
            const Distances d = measure_part<Words>(block + p * kPart, probe);
            // Counters are below 2^32 and their upper halves zero, so the 32-bit minimum is theirs.
            least = _mm256_min_epu32(least, _mm256_min_epu32(_mm256_min_epu32(d.u64x4[0], d.u64x4[1]),
                                                             _mm256_min_epu32(d.u64x4[2], d.u64x4[3])));
        }
        if (_mm256_movemask_epi8(_mm256_cmpgt_epi64(above_u64x4, least)) != 0) {
            describe<Words>(block, probe, above_u64x4, hit);
            return b;
        }
    }
    return end;
}

FindFn finder(const Probe& probe) {
    if (probe.n_terms != 0) return find<kTerms>;
    switch (probe.n_words) {
        case 1: return find<1>;
        case 2: return find<2>;
        case 3: return find<3>;
        case 4: return find<4>;
        case 8: return find<8>;
        default: return find<0>;
    }
}

inline uint64_t count_bits(uint64_t x) {
#if defined(_MSC_VER)
    return __popcnt64(x);
#else
    return static_cast<uint64_t>(__builtin_popcountll(x));
#endif
}

#include "generic/walk.inl"

// Four codes a register where there are as many; a bucket often holds one.
struct FourTogether {
    template <class Take>
    static void compare(const Walk& walk, const uint64_t* row, size_t row_stride, size_t begin, size_t end, const Take& take) {
        if (walk.n_terms == 0) {
            const __m256i above = _mm256_set1_epi64x(static_cast<long long>(walk.radius) + 1);
            for (; end - begin >= kPerRegister; begin += kPerRegister) {
                __m256i d_u64x4 = _mm256_setzero_si256();
                int near = 0xf;
                for (size_t w = 0; w < walk.n_words && near != 0; ++w) {
                    const __m256i q = _mm256_set1_epi64x(static_cast<long long>(row[w * row_stride]));
                    const __m256i bytes = count_bytes(_mm256_xor_si256(q, load(walk.words + w * walk.stride + begin)));
                    d_u64x4 = _mm256_add_epi64(d_u64x4, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
                    near = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(above, d_u64x4)));
                }
                if (near == 0) continue;
                alignas(32) uint64_t distances[kPerRegister];
                _mm256_store_si256(reinterpret_cast<__m256i*>(distances), d_u64x4);
                for (size_t lane = 0; lane < kPerRegister; ++lane)
                    if ((near >> lane & 1) != 0) take(begin + lane, static_cast<uint32_t>(distances[lane]));
            }
        }
        OneByOne::compare(walk, row, row_stride, begin, end, take);
    }
};

const Walker kWalker = {walk_buckets<FourTogether>, walk_rows<FourTogether>, 0.045, 0.3};

#if defined(PYHASH_VECTOR_EXTENSIONS)
using V = uint64_t __attribute__((vector_size(32)));

PYHASH_ALWAYS_INLINE V majority(V a, V b, V c) { return ((a ^ b) & (a ^ c)) ^ a; }
PYHASH_ALWAYS_INLINE V parity(V a, V b, V c) { return a ^ b ^ c; }
PYHASH_ALWAYS_INLINE bool any_bit(V v) {
    const __m256i bits = reinterpret_cast<__m256i>(v);
    return _mm256_testz_si256(bits, bits) == 0;
}

#include "generic/bitslice.inl"
#endif

}  // namespace
}  // namespace avx2
}  // namespace pyhash

PYHASH_END_TARGET

namespace pyhash {
const Kernel kAvx2Kernel = {"avx2", kAvx2Target, avx2::finder, PYHASH_SLICER(avx2), 16, &avx2::kWalker, kAvx2Multipliers};
}

#endif
