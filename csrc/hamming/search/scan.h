// Passing queries over blocks. A collector says how near is near enough and takes what is found:
//
//     int64_t bound() const;                                             negative: nothing is near enough any more
//     void take(const Segment& segment, size_t slot, uint32_t distance); slots ascend within a call
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hamming/cpu/bits.h"
#include "hamming/kernels/kernel.h"
#include "hamming/search/segment.h"
#include "hamming/threads/stop.h"

namespace pyhash {

// Blocks that stay in the first-level cache while every query of a tile passes over them.
constexpr size_t kTileBytes = 24 * 1024;

struct Metric {
    std::vector<Term> terms;  // empty: every bit counts once

    uint32_t max_distance(size_t n_words) const {
        if (terms.empty()) return static_cast<uint32_t>(n_words * 64);
        uint64_t sum = 0;
        for (const Term& term : terms) sum += static_cast<uint64_t>(term.weight) * popcount(term.mask);
        return static_cast<uint32_t>(std::min<uint64_t>(sum, kMaxDistance));
    }
};

inline Probe make_probe(const Metric& metric, const uint64_t* query, size_t n_words) {
    return {query, n_words, metric.terms.data(), metric.terms.size()};
}

// Passes every query over a range, tile by tile.
template <class Collector>
void scan(const Segment& segment, const uint64_t* allowed, size_t begin, size_t end, const Probe* probes, size_t n,
          FindFn find, Collector* collectors) {
    if (begin == end) return;  // a segment without codes may have no words to divide by
    const size_t tile =
        n == 1 ? segment.blocks_per_chunk : std::max<size_t>(1, kTileBytes / (segment.n_words * kLanes * sizeof(uint64_t)));
    Hit hit;
    for (size_t from = begin; from < end;) {
        const size_t chunk_begin = from - from % segment.blocks_per_chunk;
        const size_t to = std::min({end, from + tile, chunk_begin + segment.blocks_per_chunk});
        const uint64_t* blocks = segment.block(chunk_begin);
        for (size_t j = 0; j < n; ++j) {
            Collector& collector = collectors[j];
            size_t b = from - chunk_begin;
            const size_t last = to - chunk_begin;
            for (;;) {
                const int64_t bound = collector.bound();
                if (bound < 0) break;
                b = find(blocks, b, last, probes[j], static_cast<uint32_t>(bound), hit);
                if (b >= last) break;
                const size_t block = chunk_begin + b;
                uint64_t lanes = hit.lanes & segment.visible(block, allowed);
                while (lanes != 0) {
                    const size_t lane = count_trailing_zeros(lanes);
                    lanes &= lanes - 1;
                    collector.take(segment, block * kLanes + lane, hit.distances[lane]);
                }
                ++b;
            }
        }
        from = to;
        if (from < end) checkpoint();
    }
}

inline const Slicer* slicer_for(const Kernel& kernel, const Metric& metric, size_t n_words, size_t n_queries) {
    const bool suits = metric.terms.empty() && n_words <= kMaxSlicedWords && n_queries >= kernel.sliced_from;
    return suits ? kernel.slicer : nullptr;
}

// The queries of a tile as the bit-sliced kernel reads them.
class SlicedQueries {
public:
    SlicedQueries(const Probe* probes, size_t n) : n_words_(probes[0].n_words), stride_(sliced_stride(n_words_)) {
        records_.resize(n * stride_ / sizeof(uint64_t));
        for (size_t j = 0; j < n; ++j) {
            uint8_t* offsets = reinterpret_cast<uint8_t*>(constants(j) + kSlicedConstants);
            unsigned x = 0;
            for (size_t i = 0; i < 32 * n_words_; ++i) {
                const unsigned bits = static_cast<unsigned>(probes[j].query[i / 32] >> (2 * (i % 32))) & 3;
                offsets[i] = static_cast<uint8_t>(8 * (x | bits << 1));
                x ^= (bits ^ bits >> 1) & 1;
            }
        }
    }

    const uint8_t* records() const { return reinterpret_cast<const uint8_t*>(records_.data()); }

    // Finds codes of query j at distance <= bound, which is below the number of bits.
    void set_bound(size_t j, int64_t bound) {
        uint64_t* c = constants(j);
        const int top = sliced_top(n_words_);
        const uint64_t tau = static_cast<uint64_t>(std::max<int64_t>(bound, 0)) + 1;
        const uint64_t value = (uint64_t{1} << top) - tau;
        if (((value ^ c[0]) & 1) != 0) {  // bit 0 of C begins the chain of signs: every lookup changes its x
            uint64_t* offsets = c + kSlicedConstants;
            for (size_t i = 0; i < 4 * n_words_; ++i) offsets[i] ^= 0x0808080808080808u;
        }
        c[0] = value;
        for (int l = 1; l < top; ++l) c[l] = (value >> l & 1) != 0 ? ~uint64_t{0} : 0;
    }

private:
    uint64_t* constants(size_t j) { return records_.data() + j * stride_ / sizeof(uint64_t); }

    size_t n_words_;
    size_t stride_;
    std::vector<uint64_t> records_;
};

// Groups of blocks after which it is asked whether the bit-sliced kernel pays, and for how many the plain one takes over at
// first where it does not; each time for twice as many, because near codes may all lie here.
constexpr size_t kTrial = 32;

// Like scan, for many queries. Groups of blocks go through the bit-sliced kernel, and a block where it finds something is
// measured by the plain one, which also keeps candidates in the order of their ids.
template <class Collector>
void scan_sliced(const Segment& segment, const uint64_t* allowed, size_t begin, size_t end, const Probe* probes, size_t n,
                 FindFn find, const Slicer& slicer, Collector* collectors) {
    const size_t n_words = segment.n_words;
    const int64_t all = static_cast<int64_t>(64 * n_words);  // a bound from which every code is near enough
    SlicedQueries queries(probes, n);
    std::vector<size_t> open;  // queries whose bound is still that far: the kernel has nothing to say about them
    std::vector<uint8_t> is_open(n, 0);
    const auto set_bounds = [&] {
        open.clear();
        for (size_t j = 0; j < n; ++j) {
            const int64_t bound = collectors[j].bound();
            is_open[j] = bound >= all;
            if (is_open[j]) open.push_back(j);
            queries.set_bound(j, std::min(bound, all - 1));
        }
    };
    set_bounds();
    std::vector<uint64_t> memory((slicer.table_bytes * n_words + 64) / sizeof(uint64_t));
    void* tables = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t{63});
    const auto slicer_find = slicer.find[n_words];

    size_t groups = 0;  // since the last trial
    size_t hits = 0;
    size_t pause = kTrial;
    Hit hit;
    size_t b = begin;
    while (b < end) {
        const size_t chunk_end = std::min(end, b - b % segment.blocks_per_chunk + segment.blocks_per_chunk);
        const bool pays = groups < kTrial || hits * 2 <= groups * n;
        if (!pays || chunk_end - b < slicer.group) {
            const size_t until = pays ? chunk_end : std::min(end, b + pause * slicer.group);
            scan(segment, allowed, b, until, probes, n, find, collectors);
            set_bounds();
            b = until;
            if (!pays) {
                pause *= 2;
                groups = hits = 0;
            }
            continue;
        }
        for (size_t j : open) scan(segment, allowed, b, b + slicer.group, probes + j, 1, find, collectors + j);
        const uint64_t* blocks = segment.block(b);
        slicer.build(blocks, n_words, tables);
        uint32_t hit_blocks = 0;
        for (size_t j = 0; (j = slicer_find(tables, queries.records(), j, n, hit_blocks)) < n; ++j) {
            Collector& collector = collectors[j];
            const int64_t before = collector.bound();
            if (before < 0 || is_open[j]) continue;  // open ones have passed over this group already
            ++hits;
            for (uint64_t left = hit_blocks; left != 0; left &= left - 1) {
                const size_t i = count_trailing_zeros(left);
                if (collector.bound() < 0) break;
                if (find(blocks, i, i + 1, probes[j], static_cast<uint32_t>(collector.bound()), hit) != i) continue;
                for (uint64_t lanes = hit.lanes & segment.visible(b + i, allowed); lanes != 0; lanes &= lanes - 1) {
                    const size_t lane = count_trailing_zeros(lanes);
                    collector.take(segment, (b + i) * kLanes + lane, hit.distances[lane]);
                }
            }
            if (collector.bound() != before) queries.set_bound(j, collector.bound());
        }
        if (!open.empty()) set_bounds();
        b += slicer.group;
        if (++groups % 16 == 0) checkpoint();
    }
}

// Passes every query over a range, the faster way.
template <class Collector>
void scan_best(const Segment& segment, const uint64_t* allowed, size_t begin, size_t end, const Probe* probes, size_t n,
               FindFn find, const Slicer* slicer, Collector* collectors) {
    if (slicer != nullptr)
        scan_sliced(segment, allowed, begin, end, probes, n, find, *slicer, collectors);
    else
        scan(segment, allowed, begin, end, probes, n, find, collectors);
}

}  // namespace pyhash
