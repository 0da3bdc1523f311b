#include "hamming/join/flat.h"

#include <algorithm>

#include "hamming/cpu/bits.h"
#include "hamming/kernels/walk.h"
#include "hamming/search/plan.h"
#include "hamming/search/scan.h"
#include "hamming/threads/pool.h"

namespace pyhash {
namespace {

// A task joins a few blocks of codes, as queries, with everything else.
constexpr size_t kBlocksPerTask = 8;

struct Task {
    size_t segment;
    size_t block;
};

std::vector<Task> tasks_of(const Target& target) {
    std::vector<Task> tasks;
    for (size_t s = 0; s < target.segments.size(); ++s)
        for (size_t b = 0; b < target.segments[s]->n_blocks(); b += kBlocksPerTask) tasks.push_back({s, b});
    return tasks;
}

struct PairCollector {
    PairBuffer* buffer;
    const Ranks* other_ranks;
    const EarlierKeys* earlier;  // null: none
    const uint64_t* row;
    int64_t radius;
    uint32_t rank;
    size_t after;    // slots up to this one are not taken: a set meets each of its pairs once
    bool one_set;    // then the smaller rank is i
    size_t segment;  // that is passed over

    int64_t bound() const { return radius; }
    void take(const Segment& other, size_t slot, uint32_t distance) {
        if (slot < after || (earlier != nullptr && earlier->met(row, other, slot))) return;
        const uint32_t there = other_ranks->rank(segment, slot);
        if (one_set && there < rank)
            buffer->add(there, rank, distance);
        else
            buffer->add(rank, there, distance);
    }
};

// Joins the codes of a task with `other`, from segment and block on where the two are one set.
void join_task(const Kernel& kernel, const Task& task, const Target& target, const Ranks& ranks, const Target& other,
               const Ranks& other_ranks, bool one_set, const Metric& metric, uint32_t radius, const EarlierKeys* earlier,
               PairTaker& taker) {
    const Segment& own = *target.segments[task.segment];
    const size_t n_words = own.n_words;
    const size_t end = std::min(task.block + kBlocksPerTask, own.n_blocks());
    std::vector<uint64_t> rows(kBlocksPerTask * kLanes * n_words);
    std::vector<size_t> slots;
    std::vector<Probe> probes;
    PairBuffer buffer(taker);
    std::vector<PairCollector> collectors;
    for (size_t b = task.block; b < end; ++b)
        for (uint64_t lanes = own.visible(b, allowed_of(target, task.segment)); lanes != 0; lanes &= lanes - 1) {
            const size_t slot = b * kLanes + count_trailing_zeros(lanes);
            uint64_t* row = rows.data() + probes.size() * n_words;
            own.row(slot, row);
            slots.push_back(slot);
            probes.push_back(make_probe(metric, row, n_words));
            collectors.push_back({&buffer, &other_ranks, earlier, row, radius, ranks.rank(task.segment, slot), 0, one_set, 0});
        }
    if (probes.empty()) return;
    const FindFn find = kernel.finder(probes[0]);
    const Slicer* slicer = radius < 64 * n_words ? slicer_for(kernel, metric, n_words, probes.size()) : nullptr;
    for (size_t s = one_set ? task.segment : 0; s < other.segments.size(); ++s) {
        const Segment& segment = *other.segments[s];
        const bool same = one_set && s == task.segment;
        for (size_t c = 0; c < collectors.size(); ++c) {
            collectors[c].segment = s;
            collectors[c].after = same ? slots[c] + 1 : 0;
        }
        scan_best(segment, allowed_of(other, s), same ? task.block : 0, segment.n_blocks(), probes.data(), probes.size(), find,
                  slicer, collectors.data());
    }
    buffer.flush();
}

}  // namespace

void flat_join(const Kernel& kernel, const Target& target, const Ranks& ranks, const Metric& metric, uint32_t radius,
               unsigned threads, const EarlierKeys& earlier, PairTaker& taker) {
    const std::vector<Task> tasks = tasks_of(target);
    if (tasks.empty()) return;
    const size_t words = words_measured(metric, target.segments[tasks[0].segment]->n_words);
    const EarlierKeys* met = earlier.reaches.empty() ? nullptr : &earlier;
    run_tasks(tasks.size(), useful_threads(threads, tasks.size() * tasks.size() * words * kBlocksPerTask * kLanes / 2),
              [&](size_t t) { join_task(kernel, tasks[t], target, ranks, target, ranks, true, metric, radius, met, taker); });
}

void flat_join(const Kernel& kernel, const Target& left, const Ranks& left_ranks, const Target& right,
               const Ranks& right_ranks, const Metric& metric, uint32_t radius, unsigned threads, const EarlierKeys& earlier,
               PairTaker& taker) {
    const std::vector<Task> tasks = tasks_of(left);
    if (tasks.empty()) return;
    const EarlierKeys* met = earlier.reaches.empty() ? nullptr : &earlier;
    const size_t words = words_measured(metric, left.segments[tasks[0].segment]->n_words);
    run_tasks(tasks.size(), useful_threads(threads, tasks.size() * (right_ranks.size() + 1) * words * kBlocksPerTask),
              [&](size_t t) {
                  join_task(kernel, tasks[t], left, left_ranks, right, right_ranks, false, metric, radius, met, taker);
              });
}

double flat_ns(const Kernel& kernel, const Metric& metric, size_t n_words, uint32_t radius, double pairs) {
    if (!metric.terms.empty()) return pairs * static_cast<double>(metric.terms.size()) * kernel.walker->metric_ns;
    const bool sliced = kernel.slicer != nullptr && n_words <= kMaxSlicedWords && radius < 64 * n_words;
    return pairs * static_cast<double>(n_words) * (sliced ? kernel.walker->flat_ns : kernel.walker->metric_ns);
}

}  // namespace pyhash
