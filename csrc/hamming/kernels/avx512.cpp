// AVX-512 with VPOPCNTDQ: eight codes a register, one popcount instruction for eight words.
#include "hamming/dot/multiplier.h"
#include "hamming/kernels/kernel.h"
#include "hamming/kernels/target.h"
#include "hamming/kernels/walk.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
// GCC 12 warns of its own _mm512_undefined_epi32 (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

// Values come to be in the order of the program; no instruction comes of it. A compiler that mixes the rows of a block breaks
// the ascending order that the memory prefetchers follow, which has cost more than half of the read rate.
#if defined(PYHASH_VECTOR_EXTENSIONS)
#define PYHASH_KEEP_ORDER(register) __asm__ volatile("" : "+v"(register))
#else
#define PYHASH_KEEP_ORDER(register)
#endif

PYHASH_BEGIN_TARGET(PYHASH_AVX512_TARGET)

namespace pyhash {
namespace avx512 {
namespace {

constexpr size_t kPerRegister = 8;                      // codes
constexpr size_t kRegisters = kLanes / kPerRegister;    // of one word of a block

// Distances of a block in eight registers of 64-bit counters: 64-bit, so no metric can overflow them.
struct Distances {
    __m512i u64x8[kRegisters];
};

// One comparison decides about 64 codes: almost every block ends here. Counters are below 2^32, and their upper halves
// are zero, so the 32-bit minimum is theirs.
inline bool any_within(const Distances& d, __m512i bound_u64x8) {
    __m512i m0 = _mm512_min_epu32(d.u64x8[0], d.u64x8[1]);
    __m512i m1 = _mm512_min_epu32(d.u64x8[2], d.u64x8[3]);
    __m512i m2 = _mm512_min_epu32(d.u64x8[4], d.u64x8[5]);
    __m512i m3 = _mm512_min_epu32(d.u64x8[6], d.u64x8[7]);
    m0 = _mm512_min_epu32(_mm512_min_epu32(m0, m1), _mm512_min_epu32(m2, m3));
    return _mm512_cmple_epu64_mask(m0, bound_u64x8) != 0;
}

inline void describe(const Distances& d, __m512i bound_u64x8, Hit& hit) {
    uint64_t lanes = 0;
    for (size_t r = 0; r < kRegisters; ++r) {
        lanes |= static_cast<uint64_t>(_mm512_cmple_epu64_mask(d.u64x8[r], bound_u64x8)) << (kPerRegister * r);
        _mm256_store_si256(reinterpret_cast<__m256i*>(hit.distances + kPerRegister * r),
                           _mm512_cvtepi64_epi32(d.u64x8[r]));
    }
    hit.lanes = lanes;
}

// Words outside, registers inside: cache lines are read in ascending order.
// Words == 0 reads the number of words from the probe.
template <size_t Words>
size_t find(const uint64_t* blocks, size_t begin, size_t end, const Probe& probe, uint32_t bound, Hit& hit) {
    const size_t n_words = Words != 0 ? Words : probe.n_words;
    const __m512i bound_u64x8 = _mm512_set1_epi64(bound);
    __m512i query_u64x8[Words != 0 ? Words : 1];
    for (size_t w = 0; w < Words; ++w) query_u64x8[w] = _mm512_set1_epi64(static_cast<long long>(probe.query[w]));
    const uint64_t* block = blocks + begin * n_words * kLanes;
    for (size_t b = begin; b < end; ++b, block += n_words * kLanes) {
        Distances d;
        for (size_t w = 0; w < n_words; ++w) {
            const __m512i q =
                Words != 0 ? query_u64x8[Words != 0 ? w : 0] : _mm512_set1_epi64(static_cast<long long>(probe.query[w]));
            for (size_t r = 0; r < kRegisters; ++r) {
                __m512i bits =
                    _mm512_popcnt_epi64(_mm512_xor_si512(q, _mm512_loadu_si512(block + w * kLanes + r * kPerRegister)));
                PYHASH_KEEP_ORDER(bits);
                d.u64x8[r] = w == 0 ? bits : _mm512_add_epi64(d.u64x8[r], bits);
            }
        }
        if (any_within(d, bound_u64x8)) {
            describe(d, bound_u64x8, hit);
            return b;
        }
    }
    return end;
}

size_t find_terms(const uint64_t* blocks, size_t begin, size_t end, const Probe& probe, uint32_t bound, Hit& hit) {
    const __m512i bound_u64x8 = _mm512_set1_epi64(bound);
    const uint64_t* block = blocks + begin * probe.n_words * kLanes;
    for (size_t b = begin; b < end; ++b, block += probe.n_words * kLanes) {
        Distances d;
        for (size_t r = 0; r < kRegisters; ++r) d.u64x8[r] = _mm512_setzero_si512();
        for (size_t t = 0; t < probe.n_terms; ++t) {
            const Term& term = probe.terms[t];
            const __m512i q = _mm512_set1_epi64(static_cast<long long>(probe.query[term.word]));
            const __m512i mask = _mm512_set1_epi64(static_cast<long long>(term.mask));
            const __m512i weight = _mm512_set1_epi64(term.weight);
            const uint64_t* row = block + term.word * kLanes;
            for (size_t r = 0; r < kRegisters; ++r) {
                const __m512i difference = _mm512_xor_si512(q, _mm512_loadu_si512(row + r * kPerRegister));
                const __m512i bits = _mm512_popcnt_epi64(_mm512_and_si512(difference, mask));
                d.u64x8[r] = _mm512_add_epi64(d.u64x8[r], _mm512_mul_epu32(bits, weight));
            }
        }
        if (any_within(d, bound_u64x8)) {
            describe(d, bound_u64x8, hit);
            return b;
        }
    }
    return end;
}

FindFn finder(const Probe& probe) {
    if (probe.n_terms != 0) return find_terms;
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

// Eight codes a register, the last ones masked.
struct EightTogether {
    template <class Take>
    static void compare(const Walk& walk, const uint64_t* row, size_t row_stride, size_t begin, size_t end, const Take& take) {
        if (walk.n_terms != 0) {
            OneByOne::compare(walk, row, row_stride, begin, end, take);
            return;
        }
        const __m512i bound = _mm512_set1_epi64(walk.radius);
        for (; begin < end; begin += kPerRegister) {
            __mmask8 near = end - begin >= kPerRegister ? 0xff : static_cast<__mmask8>((1u << (end - begin)) - 1);
            __m512i d_u64x8 = _mm512_setzero_si512();
            for (size_t w = 0; w < walk.n_words && near != 0; ++w) {
                const __m512i q = _mm512_set1_epi64(static_cast<long long>(row[w * row_stride]));
                const __m512i codes = _mm512_loadu_si512(walk.words + w * walk.stride + begin);
                d_u64x8 = _mm512_add_epi64(d_u64x8, _mm512_popcnt_epi64(_mm512_xor_si512(q, codes)));
                near = _mm512_mask_cmple_epu64_mask(near, d_u64x8, bound);
            }
            if (near == 0) continue;
            alignas(64) uint64_t distances[kPerRegister];
            _mm512_store_si512(distances, d_u64x8);
            for (size_t lane = 0; lane < kPerRegister; ++lane)
                if ((near >> lane & 1) != 0) take(begin + lane, static_cast<uint32_t>(distances[lane]));
        }
    }
};

const Walker kWalker = {walk_buckets<EightTogether>, walk_rows<EightTogether>, 0.022, 0.06};

#if defined(PYHASH_VECTOR_EXTENSIONS)
using V = uint64_t __attribute__((vector_size(64)));

// One instruction each: the immediate is the truth table of three inputs.
PYHASH_ALWAYS_INLINE V majority(V a, V b, V c) {
    return reinterpret_cast<V>(_mm512_ternarylogic_epi64(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b),
                                                         reinterpret_cast<__m512i>(c), 0xe8));
}
PYHASH_ALWAYS_INLINE V parity(V a, V b, V c) {
    return reinterpret_cast<V>(_mm512_ternarylogic_epi64(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b),
                                                         reinterpret_cast<__m512i>(c), 0x96));
}
PYHASH_ALWAYS_INLINE bool any_bit(V v) {
    return _mm512_test_epi64_mask(reinterpret_cast<__m512i>(v), reinterpret_cast<__m512i>(v)) != 0;
}

#include "generic/bitslice.inl"
#endif

}  // namespace
}  // namespace avx512
}  // namespace pyhash

PYHASH_END_TARGET

namespace pyhash {
const Kernel kAvx512Kernel = {"avx512", kAvx512Target, avx512::finder, PYHASH_SLICER(avx512), 16, &avx512::kWalker, kAvx512Multipliers};
}

#endif
