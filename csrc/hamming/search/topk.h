// The k nearest candidates seen so far, by counting: distances are small integers, so a histogram tells the k-th smallest
// at once, and a candidate costs an append instead of a walk through a heap.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pyhash {

struct Candidate {
    uint32_t distance;
    int64_t id;
};

inline bool operator<(const Candidate& a, const Candidate& b) {
    return a.distance != b.distance ? a.distance < b.distance : a.id < b.id;
}

class TopK {
public:
    // ascending: candidates arrive with ascending ids, so one that only equals the k-th can never enter.
    TopK(size_t k, uint32_t max_distance, bool ascending) : k_(k), ascending_(ascending) {
        // Weighted metrics reach far: their distances share buckets. That loosens the bound, never the answer.
        while ((max_distance >> shift_) >= kMaxBuckets) ++shift_;
        counts_.assign((max_distance >> shift_) + 1, 0);
        kth_ = static_cast<uint32_t>(counts_.size()) - 1;
        candidates_.reserve(std::min<size_t>(2 * k + 32, 4096));
    }

    size_t k() const { return k_; }

    // The caller knows of k candidates within this distance; to be said before any is pushed.
    void limit(uint32_t distance) { kth_ = std::min(kth_, distance >> shift_); }

    // Candidates farther than this cannot enter; -1 when none can.
    int64_t bound() const {
        if (shift_ == 0) return static_cast<int64_t>(kth_) - (ascending_ && full());
        const int64_t last = ((static_cast<int64_t>(kth_) + 1) << shift_) - 1;
        return have_worst_ ? std::min<int64_t>(last, worst_.distance) : last;
    }

    void push(uint32_t distance, int64_t id) {
        if (distance > bound() || (have_worst_ && !(Candidate{distance, id} < worst_))) return;
        candidates_.push_back({distance, id});
        ++counts_[distance >> shift_];
        ++within_kth_;
        // within_kth_ counts what lies in buckets up to kth_: lower kth_ while k remain below it.
        while (kth_ > 0 && within_kth_ - counts_[kth_] >= k_) within_kth_ -= counts_[kth_--];
        if (candidates_.size() >= 2 * k_ + slack()) compact();
    }

    // The k nearest, sorted by (distance, id).
    std::vector<Candidate>& finish() {
        if (candidates_.size() > k_) {
            drop_above_kth();
            if (candidates_.size() > k_) {
                std::nth_element(candidates_.begin(), candidates_.begin() + (k_ - 1), candidates_.end());
                candidates_.resize(k_);
            }
        }
        std::sort(candidates_.begin(), candidates_.end());
        return candidates_;
    }

private:
    static constexpr size_t kMaxBuckets = size_t{1} << 12;  // clearing them must cost less than searching few codes

    // Where distances share buckets, only sorting out tells the k-th: the sooner, the fewer candidates come.
    size_t slack() const { return shift_ == 0 ? 1024 : 128; }

    bool full() const { return within_kth_ >= k_; }

    void drop_above_kth() {
        candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(),
                                         [this](const Candidate& c) { return (c.distance >> shift_) > kth_; }),
                          candidates_.end());
    }

    void compact() {
        std::nth_element(candidates_.begin(), candidates_.begin() + (k_ - 1), candidates_.end());
        candidates_.resize(k_);
        worst_ = candidates_.back();
        have_worst_ = true;
        std::fill(counts_.begin(), counts_.end(), 0);
        for (const Candidate& c : candidates_) ++counts_[c.distance >> shift_];
        kth_ = worst_.distance >> shift_;
        within_kth_ = k_;
    }

    size_t k_;
    bool ascending_;
    uint32_t shift_ = 0;
    uint32_t kth_;           // bucket of the k-th nearest so far; the last bucket while there are fewer than k
    size_t within_kth_ = 0;  // candidates in buckets up to kth_
    std::vector<uint32_t> counts_;
    std::vector<Candidate> candidates_;
    bool have_worst_ = false;
    Candidate worst_{};
};

}  // namespace pyhash
