#include <algorithm>
#include <stdexcept>
#include <vector>

#include "hamming/cpu/bits.h"
#include "hamming/search/collectors.h"
#include "hamming/search/plan.h"
#include "hamming/search/search.h"
#include "hamming/threads/pool.h"

namespace pyhash {
namespace {

// A query's candidates are gathered into blocks of their own, which the kernel measures as any others.
void rerank_one(const Target& target, const std::vector<size_t>& ends, const Probe& probe, FindFn find,
                std::vector<size_t>& slots, std::vector<uint64_t>& block, TopK& top) {
    const size_t n_words = probe.n_words;
    int64_t ids[kLanes];
    Hit hit;
    size_t held = 0;  // candidates in the block
    const auto measure = [&] {
        const int64_t bound = top.bound();
        if (held == 0 || bound < 0 || find(block.data(), 0, 1, probe, static_cast<uint32_t>(bound), hit) != 0) return;
        for (uint64_t lanes = hit.lanes; lanes != 0; lanes &= lanes - 1) {
            const size_t lane = count_trailing_zeros(lanes);
            if (lane < held) top.push(hit.distances[lane], ids[lane]);
        }
    };
    std::sort(slots.begin(), slots.end());
    slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
    size_t s = 0;
    for (const size_t number : slots) {
        while (number >= ends[s]) ++s;
        const Segment& segment = *target.segments[s];
        const size_t slot = number - (ends[s] - segment.n_codes);
        if ((segment.visible(slot / kLanes, allowed_of(target, s)) >> slot % kLanes & 1) == 0) continue;
        const uint64_t* source = segment.block(slot / kLanes) + slot % kLanes;
        for (size_t w = 0; w < n_words; ++w) block[w * kLanes + held] = source[w * kLanes];
        ids[held++] = segment.id(slot);
        if (held == kLanes) {
            measure();
            held = 0;
        }
    }
    measure();
}

}  // namespace

void rerank(const Kernel& kernel, const Target& target, const Queries& queries, const int64_t* slots, size_t n_slots,
            const Metric& metric, size_t k, unsigned threads, int32_t* distances, int64_t* ids) {
    if (queries.n == 0) return;
    std::vector<size_t> ends;
    for (const Segment* segment : target.segments) ends.push_back((ends.empty() ? 0 : ends.back()) + segment->n_codes);
    const size_t n_codes = ends.empty() ? 0 : ends.back();
    for (size_t i = 0; i < queries.n * n_slots; ++i)
        if (slots[i] < -1 || slots[i] >= static_cast<int64_t>(n_codes))
            throw std::invalid_argument("slots must be -1 or slots of the segments");
    const size_t kept = std::min({k, n_slots, n_codes});
    if (kept == 0) {
        std::fill(distances, distances + queries.n * k, kPadDistance);
        std::fill(ids, ids + queries.n * k, kPadId);
        return;
    }
    const FindFn find = kernel.finder(make_probe(metric, queries.words, queries.n_words));
    const uint32_t max_distance = metric.max_distance(queries.n_words);
    const size_t work = queries.n * n_slots * queries.n_words;  // a word from anywhere costs about as much as a row of 64
    const size_t per_task = std::max<size_t>(1, 1024 / n_slots);
    run_tasks((queries.n + per_task - 1) / per_task, useful_threads(threads, work), [&](size_t task) {
        std::vector<size_t> own;
        std::vector<uint64_t> block(queries.n_words * kLanes, 0);
        for (size_t j = task * per_task; j < std::min(queries.n, (task + 1) * per_task); ++j) {
            own.clear();
            for (size_t i = j * n_slots; i < (j + 1) * n_slots; ++i)
                if (slots[i] >= 0) own.push_back(static_cast<size_t>(slots[i]));
            TopK top(kept, max_distance, false);
            const Probe probe = make_probe(metric, queries.words + j * queries.n_words, queries.n_words);
            rerank_one(target, ends, probe, find, own, block, top);
            write_padded(top.finish(), k, distances + j * k, ids + j * k);
        }
    });
}

}  // namespace pyhash
