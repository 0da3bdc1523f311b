// Pairs as they are found by several threads, and what becomes of them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "hamming/cpu/memory.h"
#include "hamming/join/ranks.h"

namespace pyhash {

struct RankPair {
    uint32_t i;
    uint32_t j;
    uint32_t distance;
};

// Takes pairs, each once, from any thread.
class PairTaker {
public:
    virtual ~PairTaker() = default;
    virtual void take(const RankPair* pairs, size_t n) = 0;
};

// Keeps them: apart by ranges of i, so that a range can be put in order alone and its memory given back.
class FoundPairs : public PairTaker {
public:
    // Of pairs whose i is below n_left; more than `most` are a std::bad_alloc, as are those that take more than `room` bytes.
    explicit FoundPairs(size_t n_left, size_t most = std::numeric_limits<size_t>::max(), size_t room = kAnyRoom);

    void take(const RankPair* pairs, size_t n) override;

    size_t size() const;

    // Writes all in (i, j) order, and is empty then.
    void write(const Ranks& left, const Ranks& right, unsigned threads, int64_t* i, int64_t* j, int32_t* distances);

private:
    struct Bucket {
        std::mutex mutex;
        std::vector<std::vector<RankPair>> pieces;
        size_t n = 0;
    };

    size_t bucket_of(uint32_t i) const { return static_cast<size_t>(i) / width_; }

    size_t n_left_;
    size_t most_;
    size_t width_;  // ranks a bucket
    std::vector<Bucket> buckets_;
    std::atomic<size_t> taken_{0};  // pairs
};

// Gathers pairs of one thread, so that they are handed over many at a time.
class PairBuffer {
public:
    explicit PairBuffer(PairTaker& taker) : taker_(&taker) { pairs_.reserve(kRoom); }

    void add(uint32_t i, uint32_t j, uint32_t distance) {
        pairs_.push_back({i, j, distance});
        if (pairs_.size() == kRoom) flush();
    }

    void flush() {
        if (!pairs_.empty()) taker_->take(pairs_.data(), pairs_.size());
        pairs_.clear();
    }

private:
    static constexpr size_t kRoom = 4096;
    PairTaker* taker_;
    std::vector<RankPair> pairs_;
};

}  // namespace pyhash
