#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "hamming/cpu/bits.h"
#include "hamming/ring/by_rings.h"
#include "hamming/search/collectors.h"
#include "hamming/search/plan.h"
#include "hamming/search/search.h"
#include "hamming/threads/pool.h"

namespace pyhash {
namespace {

// Blocks of which all codes are measured first, to know about where the k-th distance lies before candidates are collected. A
// code measured costs a fiftieth of a candidate, and the fewer are measured the more candidates come, about k at each doubling.
constexpr size_t kFewestSampled = 8;
constexpr size_t kMostSampled = 64;

// A distance within which k codes lie, by counting those of sampled blocks. The blocks lie at equal distances through the ranges,
// from the first to the last, so that it does not matter where near codes are stored.
class Sampled {
public:
    Sampled(const Target& target, const std::vector<Range>& ranges, size_t k, uint32_t max_distance)
        : k_(k), max_distance_(max_distance) {
        size_t total = 0;
        for (const Range& range : ranges) total += range.end - range.begin;
        const size_t n = std::min(total, std::max(kFewestSampled, std::min(k, kMostSampled)));
        blocks_.reserve(n);
        size_t before = 0;
        size_t r = 0;
        for (size_t i = 0; i < n; ++i) {
            const size_t place = i * (total - 1) / std::max<size_t>(1, n - 1);
            while (place - before >= ranges[r].end - ranges[r].begin) before += ranges[r].end - ranges[r].begin, ++r;
            const Segment& segment = *target.segments[ranges[r].segment];
            const size_t b = ranges[r].begin + place - before;
            blocks_.push_back({segment.block(b), segment.visible(b, allowed_of(target, ranges[r].segment))});
            n_visible_ += popcount(blocks_.back().visible);
        }
        while ((max_distance >> shift_) >= kCounters) ++shift_;
    }

    uint32_t bound(const Probe& probe, FindFn find) const {
        if (n_visible_ < k_) return max_distance_;
        // Neighbours are often equally far: they are counted apart, so that one addition need not wait for the other.
        uint16_t counts[2][kCounters];
        const size_t n_counters = (max_distance_ >> shift_) + 1;
        std::fill_n(counts[0], n_counters, uint16_t{0});
        std::fill_n(counts[1], n_counters, uint16_t{0});
        Hit hit;
        for (const Block& block : blocks_) {
            find(block.words, 0, 1, probe, std::numeric_limits<uint32_t>::max(), hit);
            if (block.visible == ~uint64_t{0}) {
                for (size_t i = 0; i < kLanes; i += 2) {
                    ++counts[0][hit.distances[i] >> shift_];
                    ++counts[1][hit.distances[i + 1] >> shift_];
                }
            } else {
                for (uint64_t lanes = block.visible; lanes != 0; lanes &= lanes - 1)
                    ++counts[0][hit.distances[count_trailing_zeros(lanes)] >> shift_];
            }
        }
        size_t c = 0;
        for (size_t within = counts[0][0] + counts[1][0]; within < k_; within += counts[0][c] + counts[1][c]) ++c;
        return static_cast<uint32_t>(((c + 1) << shift_) - 1);
    }

private:
    static constexpr size_t kCounters = 1024;  // distances of metrics that reach farther share them, and the bound is larger

    struct Block {
        const uint64_t* words;
        uint64_t visible;
    };

    size_t k_;
    uint32_t max_distance_;
    uint32_t shift_ = 0;
    size_t n_visible_ = 0;
    std::vector<Block> blocks_;
};

// The k nearest of a tile of queries in a list of ranges.
void topk_in(const Target& target, const std::vector<Range>& ranges, const Probe* probes, size_t n, FindFn find,
             const Slicer* slicer, uint32_t max_distance, std::vector<TopKCollector>& collectors) {
    if (ranges.empty()) return;
    const Sampled sampled(target, ranges, collectors[0].top.k(), max_distance);
    for (size_t j = 0; j < n; ++j) collectors[j].top.limit(sampled.bound(probes[j], find));
    for (const Range& range : ranges)
        scan_best(*target.segments[range.segment], allowed_of(target, range.segment), range.begin, range.end, probes, n, find,
                  slicer, collectors.data());
}

void topk_flat(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric, size_t k, unsigned threads,
               int32_t* distances, int64_t* ids) {
    const size_t kept = std::min(k, total_codes(target));
    const uint32_t max_distance = metric.max_distance(queries.n_words);
    const Plan plan = make_plan(kernel, target, queries, metric, threads);
    const std::vector<std::vector<Range>> lists = split(target, plan.parts);
    const FindFn find = kernel.finder(make_probe(metric, queries.words, queries.n_words));
    std::vector<std::vector<Candidate>> partial(plan.parts > 1 ? plan.parts * queries.n : 0);

    run_tasks(plan.n_tiles * plan.parts, plan.threads, [&](size_t task) {
        const size_t tile = task / plan.parts;
        const size_t part = task % plan.parts;
        const size_t first = tile * plan.query_tile;
        const size_t n = std::min(plan.query_tile, queries.n - first);
        std::vector<Probe> probes;
        std::vector<TopKCollector> collectors;
        probes.reserve(n);
        collectors.reserve(n);
        for (size_t j = 0; j < n; ++j) {
            probes.push_back(make_probe(metric, queries.words + (first + j) * queries.n_words, queries.n_words));
            collectors.push_back({TopK(kept, max_distance, ids_ascend(target))});
        }
        topk_in(target, lists[part], probes.data(), n, find, plan.slicer, max_distance, collectors);
        for (size_t j = 0; j < n; ++j) {
            std::vector<Candidate>& nearest = collectors[j].top.finish();
            if (plan.parts == 1)
                write_padded(nearest, k, distances + (first + j) * k, ids + (first + j) * k);
            else
                partial[(first + j) * plan.parts + part] = std::move(nearest);
        }
    });

    if (plan.parts == 1) return;
    for (size_t j = 0; j < queries.n; ++j) {
        std::vector<Candidate>& all = partial[j * plan.parts];
        for (size_t part = 1; part < plan.parts; ++part) {
            const std::vector<Candidate>& more = partial[j * plan.parts + part];
            all.insert(all.end(), more.begin(), more.end());
        }
        std::sort(all.begin(), all.end());
        write_padded(all, k, distances + j * k, ids + j * k);
    }
}

}  // namespace

void topk(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric, size_t k, unsigned threads,
          int32_t* distances, int64_t* ids) {
    if (queries.n == 0) return;
    const size_t kept = std::min(k, total_codes(target));
    if (kept == 0) {
        std::fill(distances, distances + queries.n * k, kPadDistance);
        std::fill(ids, ids + queries.n * k, kPadId);
        return;
    }
    if (!has_ring(target, metric)) {
        topk_flat(kernel, target, queries, metric, k, threads, distances, ids);
        return;
    }
    const uint32_t max_distance = metric.max_distance(queries.n_words);
    search_by_rings(
        kernel, target, queries, threads, [&](size_t) { return TopKCollector{TopK(kept, max_distance, false)}; },
        [&](size_t j, TopKCollector& collector) {
            write_padded(collector.top.finish(), k, distances + j * k, ids + j * k);
        },
        [&](const Queries& rest, const std::vector<size_t>& numbers) {
            std::vector<int32_t> rest_distances(rest.n * k);
            std::vector<int64_t> rest_ids(rest.n * k);
            topk_flat(kernel, target, rest, metric, k, threads, rest_distances.data(), rest_ids.data());
            for (size_t i = 0; i < numbers.size(); ++i) {
                std::copy_n(rest_distances.data() + i * k, k, distances + numbers[i] * k);
                std::copy_n(rest_ids.data() + i * k, k, ids + numbers[i] * k);
            }
        });
}

}  // namespace pyhash
