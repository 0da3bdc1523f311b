#include "hamming/join/join.h"

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>

#include "hamming/cpu/bits.h"
#include "hamming/join/buckets.h"
#include "hamming/join/choose.h"
#include "hamming/join/flat.h"
#include "hamming/kernels/walk.h"
#include "hamming/search/plan.h"
#include "hamming/threads/pool.h"
#include "hamming/threads/stop.h"

namespace pyhash {
namespace {

constexpr size_t kFewCodes = 4096;           // below, choosing keys takes longer than a flat pass
constexpr double kFewPairs = 1 << 23;        // likewise, of two sets
constexpr size_t kTasks = 256;               // of one walk, at least
constexpr uint64_t kMeetingsPerTask = 1 << 25;

size_t words_of(const Target& target) {
    size_t n_words = 0;
    for (const Segment* segment : target.segments) n_words = std::max(n_words, segment->n_words);
    return n_words;
}

std::vector<Choosable> choosable(const Metric& metric, size_t n_words) {
    if (metric.terms.empty()) {
        std::vector<uint32_t> all(64 * n_words);
        for (size_t b = 0; b < all.size(); ++b) all[b] = static_cast<uint32_t>(b);
        return {{all, 1}};
    }
    std::vector<uint32_t> weights;
    for (const Term& term : metric.terms)
        if (term.weight != 0) weights.push_back(term.weight);
    std::sort(weights.begin(), weights.end());
    weights.erase(std::unique(weights.begin(), weights.end()), weights.end());
    std::vector<Choosable> sets;
    for (uint32_t weight : weights) {
        sets.push_back({{}, weight});
        for (const Term& term : metric.terms)
            for (uint32_t bit = 0; bit < 64; ++bit)
                if (term.weight >= weight && (term.mask >> bit & 1) != 0) sets.back().bits.push_back(64 * term.word + bit);
    }
    return sets;
}

bool fits(size_t room, size_t n, size_t n_words, const std::vector<Key>& keys) {
    size_t most = 0;
    for (const Key& key : keys) most = std::max(most, key.bits.size());
    return Buckets::bytes(n, n_words, most) < room / 2;
}

// What the keys from this one on cost: this one's share is counted, that of the others estimated.
double still_ns(const Choice& choice, size_t k, double counted_ns) {
    return std::accumulate(choice.ns.begin() + static_cast<std::ptrdiff_t>(k) + 1, choice.ns.end(), counted_ns);
}

Walk walk_of(const Buckets& buckets, size_t n_words, const Metric& metric, uint32_t radius, const EarlierKeys& earlier) {
    return {buckets.starts.data(), buckets.words.get(),  buckets.stride,         n_words,
            metric.terms.data(),   metric.terms.size(),  radius,                 earlier.bits.data(),
            earlier.reaches.data(), earlier.reaches.size()};
}

// Hands on what a walk of one set found.
struct OneSet {
    PairBuffer buffer;
    const uint32_t* ranks;

    static void empty(NearPairs& found) {
        checkpoint();
        OneSet& self = *static_cast<OneSet*>(found.owner);
        for (size_t p = 0; p < found.n; ++p) {
            const uint32_t a = self.ranks[found.pairs[p].a];
            const uint32_t b = self.ranks[found.pairs[p].b];
            self.buffer.add(std::min(a, b), std::max(a, b), found.pairs[p].distance);
        }
        found.n = 0;
    }
};

// Hands on what looking up the codes of one block found.
struct TwoSets {
    PairBuffer buffer;
    const uint32_t* sorted_ranks;
    const Ranks* row_ranks;
    bool rows_are_left;
    size_t segment = 0;
    size_t first_slot = 0;

    static void empty(NearPairs& found) {
        checkpoint();
        TwoSets& self = *static_cast<TwoSets*>(found.owner);
        for (size_t p = 0; p < found.n; ++p) {
            const uint32_t row = self.row_ranks->rank(self.segment, self.first_slot + found.pairs[p].a);
            const uint32_t sorted = self.sorted_ranks[found.pairs[p].b];
            if (self.rows_are_left)
                self.buffer.add(row, sorted, found.pairs[p].distance);
            else
                self.buffer.add(sorted, row, found.pairs[p].distance);
        }
        found.n = 0;
    }
};

}  // namespace

JoinReport join(const Kernel& kernel, const Target& target, const Ranks& ranks, const Metric& metric, uint32_t radius,
                unsigned threads, PairTaker& taker, size_t room, double dearer) {
    JoinReport report;
    EarlierKeys earlier;
    const size_t n_words = words_of(target);
    const double n = static_cast<double>(ranks.size());
    const double flat = dearer * flat_ns(kernel, metric, n_words, radius, n * n / 2);
    const Joined joined{target, n, nullptr, 0, n_words};
    Choice choice;
    if (ranks.size() >= kFewCodes || dearer != 1) choice = choose_keys(joined, choosable(metric, n_words), radius, flat);
    if (!fits(room, ranks.size(), n_words, choice.keys)) choice.keys.clear();
    Buckets buckets;
    for (const Key& key : choice.keys) {
        const std::vector<uint32_t> masks = differences(static_cast<unsigned>(key.bits.size()), key.reach);
        sort_by_key(target, ranks, key, threads, buckets);
        const uint64_t meetings = count_meetings(buckets, masks);
        const double counted = key_ns(joined, key.bits.size(), key.reach, static_cast<double>(meetings));
        if (still_ns(choice, report.n_keys, counted) > flat) break;
        const Walk walk = walk_of(buckets, n_words, metric, radius, earlier);
        const size_t n_tasks = std::min<size_t>(std::max<uint64_t>(kTasks, meetings / kMeetingsPerTask), buckets.n_buckets());
        run_tasks(n_tasks, threads, [&](size_t t) {
            OneSet owner{PairBuffer(taker), buckets.ranks.get()};
            NearPairs found;
            found.empty = OneSet::empty;
            found.owner = &owner;
            kernel.walker->buckets(walk, masks.data(), masks.size(), buckets.n_buckets() * t / n_tasks,
                                   buckets.n_buckets() * (t + 1) / n_tasks, found);
            OneSet::empty(found);
            owner.buffer.flush();
        });
        report.compared += meetings;
        ++report.n_keys;
        earlier.add(key, n_words);
    }
    if (report.n_keys == choice.keys.size() && report.n_keys != 0) return report;
    report.flat = true;
    buckets = Buckets();
    flat_join(kernel, target, ranks, metric, radius, threads, earlier, taker);
    return report;
}

JoinReport join(const Kernel& kernel, const Target& left, const Ranks& left_ranks, const Target& right,
                const Ranks& right_ranks, const Metric& metric, uint32_t radius, unsigned threads, PairTaker& taker,
                size_t room, double dearer) {
    JoinReport report = join_by_keys(kernel, left, left_ranks, right, right_ranks, metric, radius, threads, taker, room,
                                     dearer);
    if (report.n_keys == 0) {
        report.flat = true;
        flat_join(kernel, left, left_ranks, right, right_ranks, metric, radius, threads, {}, taker);
    }
    return report;
}

JoinReport join_by_keys(const Kernel& kernel, const Target& left, const Ranks& left_ranks, const Target& right,
                        const Ranks& right_ranks, const Metric& metric, uint32_t radius, unsigned threads, PairTaker& taker,
                        size_t room, double dearer) {
    JoinReport report;
    // The smaller set is sorted, and the codes of the larger are looked up.
    const bool rows_are_left = left_ranks.size() > right_ranks.size();
    const Target& rows = rows_are_left ? left : right;
    const Target& sorted = rows_are_left ? right : left;
    const Ranks& row_ranks = rows_are_left ? left_ranks : right_ranks;
    const Ranks& sorted_ranks = rows_are_left ? right_ranks : left_ranks;
    const size_t n_words = words_of(sorted);
    const double n_rows = static_cast<double>(row_ranks.size());
    const double n = static_cast<double>(sorted_ranks.size());
    if (n * n_rows < kFewPairs && dearer == 1) return report;
    const double flat = dearer * flat_ns(kernel, metric, n_words, radius, n * n_rows);
    const Joined joined{sorted, n, &rows, n_rows, n_words};
    const Choice choice = choose_keys(joined, choosable(metric, n_words), radius, flat);
    if (!fits(room, sorted_ranks.size(), n_words, choice.keys)) return report;
    EarlierKeys earlier;
    Buckets buckets;
    for (const Key& key : choice.keys) {
        const std::vector<uint32_t> masks = differences(static_cast<unsigned>(key.bits.size()), key.reach);
        sort_by_key(sorted, sorted_ranks, key, threads, buckets);
        const double meetings = n_rows * met_by_a_row(buckets, key, choice.rows);
        const double counted = key_ns(joined, key.bits.size(), key.reach, meetings);
        if (still_ns(choice, report.n_keys, counted) > flat) break;
        std::vector<uint64_t> full(buckets.n_buckets() / 64 + 1, 0);
        for (size_t v = 0; v < buckets.n_buckets(); ++v)
            if (buckets.starts[v] != buckets.starts[v + 1]) full[v / 64] |= uint64_t{1} << v % 64;
        const Walk walk = walk_of(buckets, n_words, metric, radius, earlier);
        const KeyReader value_of(key, n_words);
        const size_t n_tasks = std::max(kTasks, static_cast<size_t>(meetings) / kMeetingsPerTask);
        const std::vector<std::vector<Range>> parts = split(rows, std::min(n_tasks, row_ranks.size() / kLanes + 1));
        run_tasks(parts.size(), threads, [&](size_t part) {
            TwoSets owner{PairBuffer(taker), buckets.ranks.get(), &row_ranks, rows_are_left};
            NearPairs found;
            found.empty = TwoSets::empty;
            found.owner = &owner;
            for (const Range& range : parts[part])
                for (size_t b = range.begin; b < range.end; ++b) {
                    checkpoint();
                    const Segment& segment = *rows.segments[range.segment];
                    const uint64_t* block = segment.block(b);
                    owner.segment = range.segment;
                    std::array<uint32_t, kLanes> values;
                    value_of.of_block(block, values.data());
                    uint64_t lanes = segment.visible(b, allowed_of(rows, range.segment));
                    while (lanes != 0) {  // a run of those that are visible
                        const size_t first = count_trailing_zeros(lanes);
                        const uint64_t behind = ~(lanes | ((uint64_t{1} << first) - 1));
                        const size_t last = behind == 0 ? kLanes : count_trailing_zeros(behind);
                        owner.first_slot = b * kLanes + first;
                        kernel.walker->rows(walk, block + first, kLanes, values.data() + first, last - first, masks.data(),
                                            masks.size(), full.data(), found);
                        if (found.n != 0) TwoSets::empty(found);
                        lanes = last == kLanes ? 0 : lanes >> last << last;
                    }
                }
            owner.buffer.flush();
        });
        report.compared += static_cast<uint64_t>(meetings);
        ++report.n_keys;
        earlier.add(key, n_words);
    }
    if (report.n_keys != 0 && report.n_keys != choice.keys.size()) {
        report.flat = true;
        buckets = Buckets();
        flat_join(kernel, left, left_ranks, right, right_ranks, metric, radius, threads, earlier, taker);
    }
    return report;
}

}  // namespace pyhash
