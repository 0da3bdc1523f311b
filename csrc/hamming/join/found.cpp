#include "hamming/join/found.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <new>

#include "hamming/cpu/memory.h"
#include "hamming/threads/pool.h"
#include "hamming/threads/stop.h"

namespace pyhash {
namespace {

constexpr size_t kMostBuckets = 64;
constexpr size_t kLeastWidth = 1 << 8;   // ranks
constexpr size_t kFirstPiece = 256;      // pairs
constexpr size_t kLastPiece = 1 << 16;
// What a pair takes until it is written: here, and in the arrays of the answer.
constexpr size_t kBytesPerPair = sizeof(RankPair) + 2 * sizeof(int64_t) + sizeof(int32_t);
constexpr size_t kPairsPerCheckpoint = 1 << 14;
constexpr size_t kGivenBackAtOnce = size_t{1} << 25;  // bytes

}  // namespace

FoundPairs::FoundPairs(size_t n_left, size_t most, size_t room)
    : n_left_(n_left),
      most_(std::min(most, room / kBytesPerPair)),
      width_(std::max(kLeastWidth, (n_left + kMostBuckets - 1) / kMostBuckets)),
      buckets_((n_left + width_ - 1) / width_) {}

void FoundPairs::take(const RankPair* pairs, size_t n) {
    if (taken_.fetch_add(n) + n > most_) throw std::bad_alloc();
    std::vector<RankPair> sorted;
    std::vector<size_t> starts(buckets_.size() + 1, 0);
    if (buckets_.size() > 1) {
        for (size_t p = 0; p < n; ++p) ++starts[bucket_of(pairs[p].i) + 1];
        for (size_t b = 0; b < buckets_.size(); ++b) starts[b + 1] += starts[b];
        sorted.resize(n);
        std::vector<size_t> next(starts.begin(), starts.end() - 1);
        for (size_t p = 0; p < n; ++p) sorted[next[bucket_of(pairs[p].i)]++] = pairs[p];
        pairs = sorted.data();
    } else {
        starts[1] = n;
    }
    for (size_t b = 0; b < buckets_.size(); ++b) {
        const RankPair* from = pairs + starts[b];
        size_t left = starts[b + 1] - starts[b];
        if (left == 0) continue;
        Bucket& bucket = buckets_[b];
        std::lock_guard<std::mutex> lock(bucket.mutex);
        bucket.n += left;
        while (left != 0) {
            if (bucket.pieces.empty() || bucket.pieces.back().size() == bucket.pieces.back().capacity()) {
                const size_t room = bucket.pieces.empty() ? kFirstPiece : 2 * bucket.pieces.back().capacity();
                bucket.pieces.emplace_back().reserve(std::min(room, kLastPiece));
            }
            std::vector<RankPair>& piece = bucket.pieces.back();
            const size_t some = std::min(left, piece.capacity() - piece.size());
            piece.insert(piece.end(), from, from + some);
            from += some;
            left -= some;
        }
    }
}

size_t FoundPairs::size() const {
    size_t n = 0;
    for (const Bucket& bucket : buckets_) n += bucket.n;
    return n;
}

void FoundPairs::write(const Ranks& left, const Ranks& right, unsigned threads, int64_t* i, int64_t* j, int32_t* distances) {
    std::vector<size_t> offsets(buckets_.size() + 1, 0);
    for (size_t b = 0; b < buckets_.size(); ++b) offsets[b + 1] = offsets[b] + buckets_[b].n;
    std::atomic<size_t> freed{0};  // bytes
    run_tasks(buckets_.size(), offsets.back() < 4096 ? 1 : threads, [&](size_t b) {
        Bucket& bucket = buckets_[b];
        if (bucket.n == 0) return;
        const size_t first = b * width_;
        std::vector<size_t> starts(std::min(width_, n_left_ - first) + 1, 0);
        for (const std::vector<RankPair>& piece : bucket.pieces) {
            checkpoint();
            for (const RankPair& pair : piece) ++starts[pair.i - first + 1];
        }
        for (size_t r = 1; r < starts.size(); ++r) starts[r] += starts[r - 1];
        std::vector<uint64_t> partners(bucket.n);  // j, then the distance
        {
            std::vector<size_t> next(starts.begin(), starts.end() - 1);
            for (std::vector<RankPair>& piece : bucket.pieces) {
                checkpoint();
                for (const RankPair& pair : piece) partners[next[pair.i - first]++] = uint64_t{pair.j} << 32 | pair.distance;
                std::vector<RankPair>().swap(piece);
            }
        }
        size_t to = offsets[b];
        size_t checked = to;
        for (size_t r = 0; r + 1 < starts.size(); ++r) {
            if (starts[r] == starts[r + 1]) continue;
            if (to - checked >= kPairsPerCheckpoint) {
                checkpoint();
                checked = to;
            }
            sort_stoppable(partners.begin() + static_cast<std::ptrdiff_t>(starts[r]),
                           partners.begin() + static_cast<std::ptrdiff_t>(starts[r + 1]), std::less<uint64_t>());
            const int64_t id = left.id(static_cast<uint32_t>(first + r));
            for (size_t p = starts[r]; p < starts[r + 1]; ++p, ++to) {
                i[to] = id;
                j[to] = right.id(static_cast<uint32_t>(partners[p] >> 32));
                distances[to] = static_cast<int32_t>(partners[p] & 0xffffffffu);
            }
        }
        bucket.n = 0;
        bucket.pieces.clear();
        // The answer's own pages are taken as they are written: those of the pieces must not stay beside them.
        const size_t bytes = partners.size() * sizeof(RankPair);
        const size_t before = freed.fetch_add(bytes);
        if (before / kGivenBackAtOnce != (before + bytes) / kGivenBackAtOnce) give_back_memory();
    });
}

}  // namespace pyhash
