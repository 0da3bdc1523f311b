// The contract between search and the kernels: one instruction set is one value of `Kernel`.
//
// Codes are stored in blocks of 64, word-major: a block is n_words rows of 64 words, block[word * 64 + lane]. A register
// holds the same word of several codes, so no kernel ever sums across a register, at any width.
//
// Adding a kernel: (1) name its features and target list in target.h, (2) write NAME.cpp with one namespace and one
// `const Kernel`, everything inside a target region; generic/ has what it includes, dot/multiplier.cpp the list of its
// multipliers, (3) declare it below and put it in the list in dispatch.cpp, best first, (4) add NAME to the static list in
// tests/backend/test_choose.py. The C++ and Python tests then cover it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyhash {

constexpr size_t kLanes = 64;  // codes a block
constexpr uint32_t kMaxDistance = 0x7ffffffe;

// distance = sum over terms of weight * popcount((code[word] ^ query[word]) & mask)
struct Term {
    uint64_t mask;
    uint32_t word;
    uint32_t weight;
};

// One query as the kernels see it. Without terms every bit counts once.
struct Probe {
    const uint64_t* query;
    size_t n_words;
    const Term* terms;
    size_t n_terms;
};

// A block that holds something near enough.
struct Hit {
    uint64_t lanes;  // bit l: the distance of lane l is at most the bound
    alignas(64) uint32_t distances[kLanes];
};

// The first block in [begin, end) with a lane at distance <= bound, described in `hit`; `end` when there is none.
using FindFn = size_t (*)(const uint64_t* blocks, size_t begin, size_t end, const Probe& probe, uint32_t bound, Hit& hit);

// The bit-sliced way to pass many queries over the same codes; bitslice.inl explains it. Plain metric only.
constexpr size_t kMaxSlicedWords = 8;
constexpr size_t kSlicedConstants = 16;  // words at the head of a query's record: word l is all ones where bit l of C is set

// The smallest m with 2^m >= 64 * n_words.
constexpr int sliced_top(size_t n_words) {
    int m = 6;
    while ((size_t{1} << m) < 64 * n_words) ++m;
    return m;
}

// Bytes of a query's record: constants, then for each pair of bits the byte 8 * (x + 2 y + 4 y').
constexpr size_t sliced_stride(size_t n_words) { return kSlicedConstants * sizeof(uint64_t) + 32 * n_words; }

struct Slicer {
    size_t group;        // blocks worked on together, contiguous in memory
    size_t table_bytes;  // a word
    void (*build)(const uint64_t* blocks, size_t n_words, void* tables);
    // By number of words: the first query in [begin, end) with a code at distance < tau, and a bit for each block that has one.
    size_t (*find[kMaxSlicedWords + 1])(const void* tables, const uint8_t* queries, size_t begin, size_t end,
                                        uint32_t& hit_blocks);
};

struct Walker;      // walk.h
struct Multiplier;  // of int8 embeddings: dot/multiplier.h

struct Kernel {
    const char* name;
    uint32_t features;                  // all of these must be there
    FindFn (*finder)(const Probe& probe);  // the fastest function for this width and metric
    const Slicer* slicer;                  // null where the compiler has no vector extensions
    size_t sliced_from;                    // queries from which the slicer is the faster way
    const Walker* walker;                  // of joins
    const Multiplier* const* multipliers;  // best first, ended by null; the last one needs no more than the kernel
};

extern const Kernel kScalarKernel;
#if defined(__x86_64__) || defined(_M_X64)
extern const Kernel kAvx2Kernel;
extern const Kernel kAvx512Kernel;
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
extern const Kernel kNeonKernel;
#endif

}  // namespace pyhash
