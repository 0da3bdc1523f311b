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

// Blocks measured in full at first, to know about where the k-th distance lies before candidates are collected.
constexpr size_t kWarmBlocks = 32;

// Fills an empty collector from the first blocks: all are measured, then only those are pushed that can be among the k.
// Number is one that holds every distance of the metric, and one more; the narrower, the faster the k-th is found.
template <class Number>
size_t warm_start(const Segment& segment, const uint64_t* allowed, size_t begin, size_t end, const Probe& probe, FindFn find,
                  TopK& top) {
    constexpr Number kHidden = std::numeric_limits<Number>::max();
    const size_t last = std::min(end, begin + kWarmBlocks);
    const size_t n = (last - begin) * kLanes;
    Number distances[kWarmBlocks * kLanes];
    size_t n_visible = 0;
    Hit hit;
    for (size_t b = begin; b < last; ++b) {
        find(segment.block(b), 0, 1, probe, std::numeric_limits<uint32_t>::max(), hit);
        Number* out = distances + (b - begin) * kLanes;
        for (size_t i = 0; i < kLanes; ++i) out[i] = static_cast<Number>(hit.distances[i]);
        const uint64_t visible = segment.visible(b, allowed);
        n_visible += popcount(visible);
        for (uint64_t hidden = ~visible; hidden != 0; hidden &= hidden - 1) out[count_trailing_zeros(hidden)] = kHidden;
    }
    Number bound = kHidden - 1;
    if (n_visible > top.k()) {
        // The k-th smallest by bisection on the value: a few passes over an array in cache, whatever the metric's range.
        Number low = 0;
        bound = static_cast<Number>(std::min<int64_t>(top.bound(), kHidden - 1));
        while (low < bound) {
            const Number middle = static_cast<Number>(low + (bound - low) / 2);
            Number count = 0;  // at most kWarmBlocks * kLanes
            for (size_t i = 0; i < n; ++i) count = static_cast<Number>(count + (distances[i] <= middle));
            if (static_cast<size_t>(count) >= top.k())
                bound = middle;
            else
                low = static_cast<Number>(middle + 1);
        }
    }
    constexpr size_t kGroup = 16;  // few are near enough: whole groups are passed over
    for (size_t first = 0; first < n; first += kGroup) {
        Number near = 0;
        for (size_t i = first; i < first + kGroup; ++i) near |= distances[i] <= bound;
        if (near == 0) continue;
        for (size_t i = first; i < first + kGroup; ++i)
            if (distances[i] <= bound) top.push(static_cast<uint32_t>(distances[i]), segment.id(begin * kLanes + i));
    }
    return last;
}

// The k nearest of a tile of queries in a list of ranges.
void topk_in(const Target& target, const std::vector<Range>& ranges, const Probe* probes, size_t n, FindFn find,
             const Slicer* slicer, uint32_t max_distance, std::vector<TopKCollector>& collectors) {
    const auto start = max_distance < uint32_t{std::numeric_limits<int16_t>::max()} ? warm_start<int16_t> : warm_start<int32_t>;
    bool warm = false;
    for (const Range& range : ranges) {
        const Segment& segment = *target.segments[range.segment];
        const uint64_t* allowed = allowed_of(target, range.segment);
        size_t begin = range.begin;
        if (!warm) {
            for (size_t j = 0; j < n; ++j)
                begin = start(segment, allowed, range.begin, range.end, probes[j], find, collectors[j].top);
            warm = true;
        }
        scan_best(segment, allowed, begin, range.end, probes, n, find, slicer, collectors.data());
    }
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
