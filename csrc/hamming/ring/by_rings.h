// Searches of targets in which a segment has a ring: each query is answered the cheaper way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "hamming/ring/ring.h"
#include "hamming/search/plan.h"
#include "hamming/search/search.h"
#include "hamming/threads/pool.h"

namespace pyhash {

// What a code of a ring costs, in codes of a flat pass, as measured: for one query, and for many that share the bit-sliced
// kernel's tables. Costs are projected before the bound has shrunk, about twice as high as they turn out.
constexpr size_t kRingCost = 2;
constexpr size_t kRingCostSliced = 3;

// Queries picked out of others.
struct Picked {
    std::vector<size_t> numbers;
    std::vector<uint64_t> words;
};

// Answers by rings the queries for which that takes less than 1 / `cost` of all codes, and returns the others. `start(j)` makes
// an empty collector, `finish(j, collector)` keeps a full one.
template <class StartFn, class FinishFn>
Picked search_rings(const Kernel& kernel, const Target& target, const Queries& queries, size_t cost, unsigned threads, const StartFn& start,
                    const FinishFn& finish) {
    constexpr size_t kQueriesPerTask = 8;
    constexpr size_t kWorkPerQuery = 2048;  // a rough guess, to decide on threads
    const Metric metric;
    const FindFn find = kernel.finder(make_probe(metric, queries.words, queries.n_words));
    std::vector<uint8_t> handed_back(queries.n, 0);
    run_tasks((queries.n + kQueriesPerTask - 1) / kQueriesPerTask, useful_threads(threads, queries.n * kWorkPerQuery),
              [&](size_t task) {
                  RingScratch scratch;
                  const size_t last = std::min(queries.n, (task + 1) * kQueriesPerTask);
                  for (size_t j = task * kQueriesPerTask; j < last; ++j) {
                      const Probe probe = make_probe(metric, queries.words + j * queries.n_words, queries.n_words);
                      auto collector = start(j);
                      for (size_t s = 0; s < target.segments.size() && !handed_back[j]; ++s) {
                          const Segment& segment = *target.segments[s];
                          if (segment.ring != nullptr)
                              handed_back[j] = !scan_rings(segment, allowed_of(target, s), probe, find,
                                                           segment.n_codes / cost, scratch, collector);
                      }
                      for (size_t s = 0; s < target.segments.size() && !handed_back[j]; ++s) {
                          const Segment& segment = *target.segments[s];
                          if (segment.ring == nullptr)
                              scan(segment, allowed_of(target, s), 0, segment.n_blocks(), &probe, 1, find, &collector);
                      }
                      if (!handed_back[j]) finish(j, collector);
                  }
              });
    Picked rest;
    for (size_t j = 0; j < queries.n; ++j)
        if (handed_back[j]) {
            rest.numbers.push_back(j);
            rest.words.insert(rest.words.end(), queries.words + j * queries.n_words, queries.words + (j + 1) * queries.n_words);
        }
    return rest;
}

// Answers each query the cheaper way. Many queries make a flat pass so cheap that only the easy ones are left to rings; but
// where too few remain to share that pass, each of them must be cheaper by rings than alone.
// `flat(queries, numbers)` answers those that are left in the end.
template <class StartFn, class FinishFn, class FlatFn>
void search_by_rings(const Kernel& kernel, const Target& target, const Queries& queries, unsigned threads, const StartFn& start,
                     const FinishFn& finish, const FlatFn& flat) {
    const auto shared = [&](size_t n) { return slicer_for(kernel, Metric(), queries.n_words, n) != nullptr; };
    Picked rest =
        search_rings(kernel, target, queries, shared(queries.n) ? kRingCostSliced : kRingCost, threads, start, finish);
    if (shared(queries.n) && !rest.numbers.empty() && !shared(rest.numbers.size())) {
        const std::vector<size_t> numbers = std::move(rest.numbers);
        rest = search_rings(
            kernel, target, Queries{rest.words.data(), numbers.size(), queries.n_words}, kRingCost, threads,
            [&](size_t j) { return start(numbers[j]); }, [&](size_t j, auto& collector) { finish(numbers[j], collector); });
        for (size_t& number : rest.numbers) number = numbers[number];
    }
    if (rest.numbers.empty()) return;
    for (const Segment* segment : target.segments)
        if (segment->ring != nullptr) segment->ring->handed_back.fetch_add(rest.numbers.size(), std::memory_order_relaxed);
    flat(Queries{rest.words.data(), rest.numbers.size(), queries.n_words}, rest.numbers);
}

inline bool has_ring(const Target& target, const Metric& metric) {
    if (!metric.terms.empty()) return false;  // the bound is one of the whole code
    for (const Segment* segment : target.segments)
        if (segment->ring != nullptr) return true;
    return false;
}

}  // namespace pyhash
