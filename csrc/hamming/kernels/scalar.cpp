// The kernel that runs anywhere. Plain loops over the 64 lanes, which compilers turn into the base instruction set's SIMD.
#include "hamming/dot/multiplier.h"
#include "hamming/kernels/kernel.h"
#include "hamming/kernels/target.h"
#include "hamming/kernels/walk.h"

namespace pyhash {
namespace scalar {
namespace {

// Bits set in each of the 64 words, by adding neighbouring fields of 1, 2 and 4 bits; a byte then holds at most 8, and
// the multiplication adds the eight bytes up in the top one (at most 64, so it fits).
inline uint32_t popcount(uint64_t x) {
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return static_cast<uint32_t>((x * 0x0101010101010101u) >> 56);
}

uint64_t lanes_within(const uint32_t* distances, uint32_t bound) {
    uint64_t lanes = 0;
    for (size_t i = 0; i < kLanes; ++i) lanes |= static_cast<uint64_t>(distances[i] <= bound) << i;
    return lanes;
}

uint32_t minimum(const uint32_t* distances) {
    uint32_t least = distances[0];
    for (size_t i = 1; i < kLanes; ++i) least = distances[i] < least ? distances[i] : least;
    return least;
}

void measure(const uint64_t* block, const Probe& probe, uint32_t* distances) {
    for (size_t i = 0; i < kLanes; ++i) distances[i] = 0;
    for (size_t w = 0; w < probe.n_words; ++w) {
        const uint64_t q = probe.query[w];
        const uint64_t* row = block + w * kLanes;
        for (size_t i = 0; i < kLanes; ++i) distances[i] += popcount(row[i] ^ q);
    }
}

void measure_terms(const uint64_t* block, const Probe& probe, uint32_t* distances) {
    for (size_t i = 0; i < kLanes; ++i) distances[i] = 0;
    for (size_t t = 0; t < probe.n_terms; ++t) {
        const Term& term = probe.terms[t];
        const uint64_t q = probe.query[term.word];
        const uint64_t* row = block + term.word * kLanes;
        for (size_t i = 0; i < kLanes; ++i) distances[i] += term.weight * popcount((row[i] ^ q) & term.mask);
    }
}

template <void (*Measure)(const uint64_t*, const Probe&, uint32_t*)>
size_t find(const uint64_t* blocks, size_t begin, size_t end, const Probe& probe, uint32_t bound, Hit& hit) {
    const size_t stride = probe.n_words * kLanes;
    for (size_t b = begin; b < end; ++b) {
        Measure(blocks + b * stride, probe, hit.distances);
        if (minimum(hit.distances) <= bound) {
            hit.lanes = lanes_within(hit.distances, bound);
            return b;
        }
    }
    return end;
}

FindFn finder(const Probe& probe) { return probe.n_terms != 0 ? find<measure_terms> : find<measure>; }

inline uint64_t count_bits(uint64_t x) { return popcount(x); }

#include "generic/walk.inl"

const Walker kWalker = {walk_buckets<OneByOne>, walk_rows<OneByOne>, 0.1, 0.8};

#if defined(PYHASH_VECTOR_EXTENSIONS)
using V = uint64_t __attribute__((vector_size(16)));

PYHASH_ALWAYS_INLINE V majority(V a, V b, V c) { return ((a ^ b) & (a ^ c)) ^ a; }
PYHASH_ALWAYS_INLINE V parity(V a, V b, V c) { return a ^ b ^ c; }
PYHASH_ALWAYS_INLINE bool any_bit(V v) { return (v[0] | v[1]) != 0; }

#include "generic/bitslice.inl"
#endif

}  // namespace
}  // namespace scalar

const Kernel kScalarKernel = {"scalar", 0, scalar::finder, PYHASH_SLICER(scalar), 16, &scalar::kWalker, kScalarMultipliers};

}  // namespace pyhash
