#include <algorithm>
#include <vector>

#include "hamming/cpu/bits.h"
#include "hamming/search/collectors.h"
#include "hamming/search/plan.h"
#include "hamming/search/search.h"
#include "hamming/threads/pool.h"

namespace pyhash {

std::vector<Pair> pairs(const Kernel& kernel, const Target& target, uint32_t radius, unsigned threads) {
    // A task joins a few blocks of codes, as queries, with everything from there on.
    constexpr size_t kBlocksPerTask = 8;
    struct Task {
        size_t segment;
        size_t block;
    };
    std::vector<Task> tasks;
    for (size_t s = 0; s < target.segments.size(); ++s)
        for (size_t b = 0; b < target.segments[s]->n_blocks(); b += kBlocksPerTask) tasks.push_back({s, b});
    if (tasks.empty()) return {};
    const size_t n_words = target.segments[tasks[0].segment]->n_words;  // one without codes may not know it
    const Metric metric;
    const size_t work = tasks.size() * tasks.size() * n_words * kBlocksPerTask * kLanes / 2;
    std::vector<std::vector<Pair>> found(tasks.size());
    Budget budget;

    run_tasks(tasks.size(), useful_threads(threads, work), [&](size_t t) {
        const Segment& own = *target.segments[tasks[t].segment];
        const size_t end = std::min(tasks[t].block + kBlocksPerTask, own.n_blocks());
        std::vector<uint64_t> rows(kBlocksPerTask * kLanes * n_words);
        std::vector<Probe> probes;
        std::vector<PairCollector> collectors;
        for (size_t b = tasks[t].block; b < end; ++b)
            for (uint64_t lanes = own.visible(b, nullptr); lanes != 0; lanes &= lanes - 1) {
                const size_t slot = b * kLanes + count_trailing_zeros(lanes);
                uint64_t* row = rows.data() + probes.size() * n_words;
                own.row(slot, row);
                probes.push_back(make_probe(metric, row, n_words));
                collectors.push_back({&found[t], &budget, radius, own.id(slot), slot, true});
            }
        if (probes.empty()) return;
        const FindFn find = kernel.finder(probes[0]);
        const Slicer* slicer = radius < 64 * n_words ? slicer_for(kernel, metric, n_words, probes.size()) : nullptr;
        for (size_t s = tasks[t].segment; s < target.segments.size(); ++s) {
            const Segment& other = *target.segments[s];
            const size_t begin = s == tasks[t].segment ? tasks[t].block : 0;
            for (PairCollector& collector : collectors) collector.same_segment = s == tasks[t].segment;
            scan_best(other, nullptr, begin, other.n_blocks(), probes.data(), probes.size(), find, slicer,
                      collectors.data());
        }
        std::sort(found[t].begin(), found[t].end(),
                  [](const Pair& a, const Pair& b) { return a.i != b.i ? a.i < b.i : a.j < b.j; });
    });

    size_t total = 0;
    for (const std::vector<Pair>& list : found) total += list.size();
    std::vector<Pair> all;
    all.reserve(total);
    for (std::vector<Pair>& list : found) {
        all.insert(all.end(), list.begin(), list.end());
        std::vector<Pair>().swap(list);
    }
    if (!ids_ascend(target))  // else the tasks are in id order already
        std::sort(all.begin(), all.end(),
                  [](const Pair& a, const Pair& b) { return a.i != b.i ? a.i < b.i : a.j < b.j; });
    return all;
}

}  // namespace pyhash
