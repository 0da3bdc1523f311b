// NEON: two codes a register, bytes counted by CNT, summed as bytes and widened once.
#include "hamming/dot/multiplier.h"
#include "hamming/kernels/kernel.h"

#if defined(__aarch64__) || defined(_M_ARM64)

#include <arm_neon.h>

#include "hamming/kernels/target.h"
#include "hamming/kernels/walk.h"

namespace pyhash {
namespace neon {
namespace {

constexpr size_t kPerRegister = 2;                   // codes
constexpr size_t kRegisters = 8;                     // of one word, worked on together
constexpr size_t kPart = kPerRegister * kRegisters;  // codes worked on together
constexpr size_t kParts = kLanes / kPart;
// A byte counts at most 8 a word: 31 words make 248 < 256, so byte sums are widened every 31 words.
constexpr size_t kWordsPerWidening = 31;

inline uint64x2_t widen(uint8x16_t bytes) { return vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes))); }

inline uint8x16_t differing(const uint64_t* p, uint64x2_t q) { return vreinterpretq_u8_u64(veorq_u64(q, vld1q_u64(p))); }

// The distances of sixteen codes as 32-bit numbers; the caller's check keeps every metric below 2^31.
inline void measure(const uint64_t* part, const Probe& probe, uint32_t* distances) {
    uint64x2_t sums[kRegisters];
    for (size_t r = 0; r < kRegisters; ++r) sums[r] = vdupq_n_u64(0);
    for (size_t w0 = 0; w0 < probe.n_words; w0 += kWordsPerWidening) {
        const size_t w1 = w0 + kWordsPerWidening < probe.n_words ? w0 + kWordsPerWidening : probe.n_words;
        uint8x16_t bytes[kRegisters];
        for (size_t r = 0; r < kRegisters; ++r) bytes[r] = vdupq_n_u8(0);
        for (size_t w = w0; w < w1; ++w) {
            const uint64x2_t q = vdupq_n_u64(probe.query[w]);
            for (size_t r = 0; r < kRegisters; ++r)
                bytes[r] = vaddq_u8(bytes[r], vcntq_u8(differing(part + w * kLanes + r * kPerRegister, q)));
        }
        for (size_t r = 0; r < kRegisters; ++r) sums[r] = vaddq_u64(sums[r], widen(bytes[r]));
    }
    for (size_t r = 0; r < kRegisters; ++r) vst1_u32(distances + r * kPerRegister, vmovn_u64(sums[r]));
}

inline void measure_terms(const uint64_t* part, const Probe& probe, uint32_t* distances) {
    uint32x2_t sums[kRegisters];
    for (size_t r = 0; r < kRegisters; ++r) sums[r] = vdup_n_u32(0);
    for (size_t t = 0; t < probe.n_terms; ++t) {
        const Term& term = probe.terms[t];
        const uint64x2_t q = vdupq_n_u64(probe.query[term.word]);
        const uint8x16_t mask = vreinterpretq_u8_u64(vdupq_n_u64(term.mask));
        for (size_t r = 0; r < kRegisters; ++r) {
            const uint8x16_t bits = vcntq_u8(vandq_u8(differing(part + term.word * kLanes + r * kPerRegister, q), mask));
            sums[r] = vmla_n_u32(sums[r], vmovn_u64(widen(bits)), term.weight);
        }
    }
    for (size_t r = 0; r < kRegisters; ++r) vst1_u32(distances + r * kPerRegister, sums[r]);
}

template <void (*Measure)(const uint64_t*, const Probe&, uint32_t*)>
size_t find(const uint64_t* blocks, size_t begin, size_t end, const Probe& probe, uint32_t bound, Hit& hit) {
    const size_t stride = probe.n_words * kLanes;
    for (size_t b = begin; b < end; ++b) {
        const uint64_t* block = blocks + b * stride;
        for (size_t p = 0; p < kParts; ++p) Measure(block + p * kPart, probe, hit.distances + p * kPart);
        uint32x4_t least = vld1q_u32(hit.distances);
        for (size_t i = 4; i < kLanes; i += 4) least = vminq_u32(least, vld1q_u32(hit.distances + i));
        if (vminvq_u32(least) <= bound) {
            uint64_t lanes = 0;
            for (size_t i = 0; i < kLanes; ++i) lanes |= static_cast<uint64_t>(hit.distances[i] <= bound) << i;
            hit.lanes = lanes;
            return b;
        }
    }
    return end;
}

FindFn finder(const Probe& probe) { return probe.n_terms != 0 ? find<measure_terms> : find<measure>; }

inline uint64_t count_bits(uint64_t x) {
#if defined(_MSC_VER)
    return __popcnt64(x);
#else
    return static_cast<uint64_t>(__builtin_popcountll(x));
#endif
}

#include "generic/walk.inl"

const Walker kWalker = {walk_buckets<OneByOne>, walk_rows<OneByOne>, 0.1, 0.4};

#if defined(PYHASH_VECTOR_EXTENSIONS)
using V = uint64_t __attribute__((vector_size(16)));

PYHASH_ALWAYS_INLINE V majority(V a, V b, V c) { return ((a ^ b) & (a ^ c)) ^ a; }
PYHASH_ALWAYS_INLINE V parity(V a, V b, V c) { return a ^ b ^ c; }
PYHASH_ALWAYS_INLINE bool any_bit(V v) { return (v[0] | v[1]) != 0; }

#include "generic/bitslice.inl"
#endif

}  // namespace
}  // namespace neon

const Kernel kNeonKernel = {"neon", kNeon, neon::finder, PYHASH_SLICER(neon), 16, &neon::kWalker, kNeonMultipliers};

}  // namespace pyhash

#endif
