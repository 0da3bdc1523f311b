#include "hamming/join/buckets.h"

#include <algorithm>

#include "hamming/cpu/bits.h"
#include "hamming/search/plan.h"
#include "hamming/threads/pool.h"
#include "hamming/threads/stop.h"

namespace pyhash {
namespace {

constexpr size_t kPadding = 16;          // codes that a kernel may read beyond the last
constexpr unsigned kMostHighBits = 10;   // partitions: as many streams as are written at once without missing the TLB
constexpr unsigned kCodesPerPartition = 12;  // as a power of two: they stay in the second-level cache

// Calls take(segment, slot, words of the code, stride) for each code of some blocks that is not removed.
template <class Take>
void each_code(const Target& target, const std::vector<Range>& ranges, const Take& take) {
    for (const Range& range : ranges) {
        const Segment& segment = *target.segments[range.segment];
        for (size_t b = range.begin; b < range.end; ++b) {
            const uint64_t* block = segment.block(b);
            for (uint64_t lanes = segment.visible(b, allowed_of(target, range.segment)); lanes != 0; lanes &= lanes - 1) {
                const size_t lane = count_trailing_zeros(lanes);
                take(range.segment, b * kLanes + lane, block + lane);
            }
        }
    }
}

}  // namespace

KeyReader::KeyReader(const Key& key, size_t n_words) {
    for (size_t byte = 0; byte < n_words * 8; ++byte) {
        Table table{static_cast<uint32_t>(byte / 8), static_cast<uint32_t>(8 * (byte % 8)), {}};
        bool any = false;
        for (size_t k = 0; k < key.bits.size(); ++k) {
            if (key.bits[k] / 8 != byte) continue;
            any = true;
            for (uint32_t value = 0; value < 256; ++value) table.part[value] |= (value >> key.bits[k] % 8 & 1) << k;
        }
        if (any) tables_.push_back(table);
    }
}

std::vector<uint32_t> differences(unsigned bits, unsigned reach) {
    std::vector<uint32_t> masks = {0};
    if (reach >= 1)
        for (unsigned a = 0; a < bits; ++a) masks.push_back(1u << a);
    if (reach >= 2)
        for (unsigned a = 0; a < bits; ++a)
            for (unsigned b = a + 1; b < bits; ++b) masks.push_back(1u << a | 1u << b);
    return masks;
}

void sort_by_key(const Target& target, const Ranks& ranks, const Key& key, unsigned threads, Buckets& out) {
    size_t n_words = 0;  // of a segment without codes it may not be known
    for (const Segment* segment : target.segments) n_words = std::max(n_words, segment->n_words);
    const KeyReader value_of(key, n_words);
    const unsigned bits = static_cast<unsigned>(key.bits.size());
    unsigned log_n = 0;
    while (ranks.size() >> (log_n + 1) != 0) ++log_n;
    const unsigned high = std::min({bits, kMostHighBits, log_n > kCodesPerPartition ? log_n - kCodesPerPartition : 0});
    const unsigned low = bits - high;
    const size_t n_partitions = size_t{1} << high;

    // First by the high bits: each part of the codes counts its own, then writes where its own begin.
    const size_t n_parts = std::min<size_t>(64, ranks.size() / (16 * kLanes) + 1);
    const std::vector<std::vector<Range>> parts = split(target, n_parts);
    std::vector<std::vector<uint32_t>> next(n_parts, std::vector<uint32_t>(n_partitions, 0));
    run_tasks(n_parts, threads, [&](size_t p) {
        each_code(target, parts[p],
                  [&](size_t, size_t, const uint64_t* words) { ++next[p][value_of(words, kLanes) >> low]; });
    });
    std::vector<uint32_t> begins(n_partitions + 1, 0);
    uint32_t total = 0;
    for (size_t v = 0; v < n_partitions; ++v) {
        begins[v] = total;
        for (size_t p = 0; p < n_parts; ++p) {
            const uint32_t count = next[p][v];
            next[p][v] = total;
            total += count;
        }
    }
    begins[n_partitions] = total;
    if (out.words == nullptr || out.n < total) {
        out.stride = total + kPadding;
        out.ranks.reset(new uint32_t[out.stride]);
        out.words.reset(new uint64_t[out.stride * n_words]);
        for (size_t w = 0; w < n_words; ++w) std::fill_n(out.words.get() + w * out.stride + total, kPadding, uint64_t{0});
    }
    out.n = total;
    out.starts.assign((size_t{1} << bits) + 1, 0);
    out.starts.back() = total;
    uint64_t* words_out = out.words.get();
    run_tasks(n_parts, threads, [&](size_t p) {
        each_code(target, parts[p], [&](size_t segment, size_t slot, const uint64_t* words) {
            const uint32_t to = next[p][value_of(words, kLanes) >> low]++;
            out.ranks[to] = ranks.rank(segment, slot);
            for (size_t w = 0; w < n_words; ++w) words_out[w * out.stride + to] = words[w * kLanes];
        });
    });

    // Then each partition by the low bits.
    run_tasks(n_partitions, threads, [&](size_t v) {
        const uint32_t begin = begins[v];
        const size_t n = begins[v + 1] - begin;
        uint32_t* starts = out.starts.data() + (v << low);
        const size_t n_values = size_t{1} << low;
        std::vector<uint32_t> values(n);
        std::vector<uint32_t> ends(n_values + 1, 0);
        for (size_t c = 0; c < n; ++c)
            ++ends[(values[c] = value_of(words_out + begin + c, out.stride) & static_cast<uint32_t>(n_values - 1)) + 1];
        for (size_t value = 0; value < n_values; ++value) {
            starts[value] = begin + ends[value];
            ends[value + 1] += ends[value];
        }
        std::vector<uint32_t> places(n);
        for (size_t c = 0; c < n; ++c) places[c] = ends[values[c]]++;
        std::vector<uint32_t> some_ranks(n);
        for (size_t c = 0; c < n; ++c) some_ranks[places[c]] = out.ranks[begin + c];
        std::copy(some_ranks.begin(), some_ranks.end(), out.ranks.get() + begin);
        std::vector<uint64_t> column(n);
        for (size_t w = 0; w < n_words; ++w) {
            checkpoint();
            uint64_t* words = words_out + w * out.stride + begin;
            for (size_t c = 0; c < n; ++c) column[places[c]] = words[c];
            std::copy(column.begin(), column.end(), words);
        }
    });
}

uint64_t count_meetings(const Buckets& buckets, const std::vector<uint32_t>& differences) {
    const size_t step = differences.size() > 40 ? 16 : 1;
    const auto size = [&](size_t v) { return uint64_t{buckets.starts[v + 1]} - buckets.starts[v]; };
    uint64_t twice = 0;
    for (size_t v = 0; v < buckets.n_buckets(); v += step) {
        if (v % (1 << 12) == 0) checkpoint();
        const uint64_t n = size(v);
        if (n == 0) continue;
        uint64_t others = n - 1;
        for (size_t d = 1; d < differences.size(); ++d) others += size(v ^ differences[d]);
        twice += n * others;
    }
    return twice / 2 * step;
}

}  // namespace pyhash
