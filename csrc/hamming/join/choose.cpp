#include "hamming/join/choose.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "hamming/cpu/bits.h"
#include "hamming/search/plan.h"
#include "hamming/threads/stop.h"

namespace pyhash {
namespace {

// Nanoseconds on one core, as measured.
constexpr double kSort = 12;        // a code
constexpr double kSortWord = 3;     // a code, for each word of it
constexpr double kBucket = 1.2;     // a bucket and difference
constexpr double kVisit = 2.6;      // a code and difference whose bucket is not empty
constexpr double kLookup = 3;       // a row and difference
constexpr double kCompare = 0.7;    // a pair that meets
constexpr double kFarCompare = 4;   // the same of a lookup, whose buckets are far from one another

constexpr size_t kSplitSample = 512;         // codes by which bits are dealt to keys
constexpr size_t kSample = 1 << 15;          // codes by which meetings are estimated
constexpr size_t kSampleWords = 1 << 22;     // likewise: they are few where codes are very wide
constexpr size_t kLeastSample = 128;
constexpr size_t kAsked = 8;                 // times so many of the sample: differences by which those of one key are estimated
constexpr size_t kMostDealt = 4;             // bits that are offered, times those that are needed
constexpr size_t kLookedAt = 32;             // of them, for each that is dealt
constexpr double kMostChoosing = 0.06;       // what choosing may cost, of a flat pass

// What choosing costs, in nanoseconds, as measured.
constexpr double kDraw = 8;       // a word of a sampled code
constexpr double kDeal = 0.7;     // a bit that is looked at and a code
constexpr double kRead = 10;      // the key of a code
constexpr double kCount = 0.5;    // a bucket
constexpr double kAsk = 2;        // a row and difference

// The bits of sampled codes, bit by bit.
class Columns {
public:
    Columns(const Sample& sample, const std::vector<uint32_t>& bits) : n_(sample.n), values_(bits.size() * sample.n) {
        for (size_t b = 0; b < bits.size(); ++b)
            for (size_t i = 0; i < n_; ++i)
                values_[b * n_ + i] = static_cast<uint8_t>(sample.row(i)[bits[b] / 64] >> bits[b] % 64 & 1);
    }
    const uint8_t* of(size_t b) const { return values_.data() + b * n_; }
    size_t n() const { return n_; }

    // How evenly a bit divides the codes: 0 to n^2 / 4.
    double balance(size_t b) const {
        double ones = 0;
        for (size_t i = 0; i < n_; ++i) ones += of(b)[i];
        return ones * (static_cast<double>(n_) - ones);
    }

private:
    size_t n_;
    std::vector<uint8_t> values_;
};

// Sampled codes that are still together, being equal in all bits of a key so far.
class Groups {
public:
    explicit Groups(size_t n) : of_(n, 0), sizes_{static_cast<uint32_t>(n)} {}

    bool all_apart() const { return sizes_.size() == of_.size(); }

    // Pairs that would be together still with this bit.
    double together(const uint8_t* column) {
        ones_.assign(sizes_.size(), 0);
        for (size_t i = 0; i < of_.size(); ++i) ones_[of_[i]] += column[i];
        double sum = 0;
        for (size_t g = 0; g < ones_.size(); ++g) {
            const double one = ones_[g];
            const double zero = sizes_[g] - one;
            sum += one * (one - 1) + zero * (zero - 1);
        }
        return sum;
    }

    void divide(const uint8_t* column) {
        std::vector<uint32_t> names(2 * sizes_.size(), std::numeric_limits<uint32_t>::max());
        std::vector<uint32_t> sizes;
        for (size_t i = 0; i < of_.size(); ++i) {
            uint32_t& name = names[2 * of_[i] + column[i]];
            if (name == std::numeric_limits<uint32_t>::max()) {
                name = static_cast<uint32_t>(sizes.size());
                sizes.push_back(0);
            }
            of_[i] = name;
            ++sizes[name];
        }
        sizes_.swap(sizes);
    }

private:
    std::vector<uint32_t> of_;
    std::vector<uint32_t> sizes_;
    std::vector<uint32_t> ones_;
};

// Deals bits to keys in turn, each time the one that leaves the fewest sampled codes together: bits that never change, or that
// follow from others of the key, come last.
std::vector<Key> deal(const Columns& columns, std::vector<uint32_t> bits, const std::vector<unsigned>& reaches,
                      const std::vector<unsigned>& widths) {
    std::vector<double> balances(bits.size());
    for (size_t b = 0; b < bits.size(); ++b) balances[b] = columns.balance(b);
    std::vector<Key> keys(reaches.size());
    std::vector<Groups> groups(reaches.size(), Groups(columns.n()));
    for (size_t k = 0; k < keys.size(); ++k) keys[k].reach = reaches[k];
    std::vector<size_t> left(bits.size());
    std::iota(left.begin(), left.end(), size_t{0});
    const unsigned most = *std::max_element(widths.begin(), widths.end());
    size_t turn = 0;
    for (unsigned round = 0; round < most; ++round)
        for (size_t k = 0; k < keys.size(); ++k) {
            checkpoint();
            if (round >= widths[k]) continue;
            const bool apart = groups[k].all_apart();
            // Of many, some at equal distances, others each time.
            const size_t n = std::min(left.size(), kLookedAt);
            const size_t shift = turn++ % (left.size() / n);
            size_t best = left.size();
            double best_together = 0;
            for (size_t i = 0; i < n; ++i) {
                const size_t at = left.size() / n * i + shift;
                const double together = apart ? 0 : groups[k].together(columns.of(left[at]));
                if (best == left.size() || together < best_together ||
                    (together == best_together && balances[left[at]] > balances[left[best]])) {
                    best = at;
                    best_together = together;
                }
            }
            keys[k].bits.push_back(bits[left[best]]);
            if (!apart) groups[k].divide(columns.of(left[best]));
            left.erase(left.begin() + static_cast<std::ptrdiff_t>(best));
        }
    return keys;
}

// How many of the codes counted by the value of a key one row meets, on average of some rows: count(value) says.
template <class Count>
double average_met(const Key& key, const Sample& rows, const Count& count) {
    const std::vector<uint32_t> masks = differences(static_cast<unsigned>(key.bits.size()), key.reach);
    const KeyReader value_of(key, rows.n_words);
    const size_t step = std::max<size_t>(1, masks.size() / kAsked);
    double met = 0;
    double asked = 0;
    for (size_t i = 0; i < rows.n; i += step) {
        const uint32_t value = value_of(rows.row(i), 1);
        for (uint32_t mask : masks) met += count(value ^ mask);
        asked += 1;
    }
    return asked == 0 ? 0 : met / asked;
}

// The share of the codes that a row meets in a key, on average; no rows: that a code meets, itself left out.
double share_met(const Sample& codes, const Sample& rows, const Key& key) {
    const KeyReader value_of(key, codes.n_words);
    std::vector<uint32_t> counts(size_t{1} << key.bits.size(), 0);
    for (size_t i = 0; i < codes.n; ++i) ++counts[value_of(codes.row(i), 1)];
    const bool self = rows.n_words == 0;
    const double met = average_met(key, self ? codes : rows, [&](uint32_t value) { return counts[value]; });
    return (met - self) / static_cast<double>(codes.n);
}

size_t n_differences(size_t bits, unsigned reach) {
    size_t n = 1;
    if (reach >= 1) n += bits;
    if (reach >= 2) n += bits * (bits - 1) / 2;
    return n;
}

unsigned ceil_log2(double n) { return n <= 1 ? 0 : static_cast<unsigned>(std::ceil(std::log2(n))); }

// Reaches and widths of keys.
struct Shape {
    std::vector<unsigned> reaches;
    std::vector<unsigned> widths;
    double least_ns;  // what they cost where codes are spread evenly

    size_t n_bits() const { return std::accumulate(widths.begin(), widths.end(), size_t{0}); }
};

// All that are worth a look, for pairs that differ in at most `radius` of so many bits, the most promising first.
std::vector<Shape> shapes(const Joined& joined, size_t n_bits, uint32_t radius) {
    std::vector<Shape> all;
    const unsigned log_n = ceil_log2(joined.n);
    const unsigned widest = std::min(log_n + 1, kMostKeyBits);
    for (uint64_t m = std::min<uint64_t>(uint64_t{radius} + 1, n_bits); m >= 1; --m) {
        const uint64_t reach = (uint64_t{radius} + 1) / m - 1;
        const uint64_t longer = (uint64_t{radius} + 1) % m;  // keys that reach one farther
        if (reach + (longer != 0) > kMostReach) break;
        // Wider keys where more differences multiply those that meet.
        constexpr unsigned kExtra[kMostReach + 1] = {0, 4, 7};
        Shape shape{std::vector<unsigned>(m), std::vector<unsigned>(m), 0};
        for (uint64_t k = 0; k < m; ++k) shape.reaches[k] = static_cast<unsigned>(reach + (k < longer));
        unsigned base = widest;
        const auto total = [&] {
            size_t sum = 0;
            for (uint64_t k = 0; k < m; ++k) sum += shape.widths[k] = std::min(base + kExtra[shape.reaches[k]], widest);
            return sum;
        };
        while (base > 1 && total() > n_bits) --base;
        if (total() > n_bits) continue;
        size_t left = n_bits - total();
        for (uint64_t k = 0; k < m && left != 0; ++k)
            if (shape.widths[k] < widest) ++shape.widths[k], --left;
        for (uint64_t k = 0; k < m; ++k) {
            const double share = std::ldexp(static_cast<double>(n_differences(shape.widths[k], shape.reaches[k])),
                                            -static_cast<int>(shape.widths[k]));
            const double pairs = joined.rows == nullptr ? joined.n * joined.n / 2 : joined.n * joined.n_rows;
            shape.least_ns += key_ns(joined, shape.widths[k], shape.reaches[k], share * pairs);
        }
        all.push_back(std::move(shape));
        if (reach == 0 && longer == 0 && base >= log_n) break;  // buckets are as small as they get, and differences the fewest
    }
    std::sort(all.begin(), all.end(), [](const Shape& a, const Shape& b) { return a.least_ns < b.least_ns; });
    return all;
}

// Those of the bits that divide some codes best.
std::vector<uint32_t> best_bits(const Sample& codes, const std::vector<uint32_t>& bits, size_t n) {
    if (bits.size() <= n) return bits;
    const Columns columns(codes, bits);
    std::vector<std::pair<double, uint32_t>> order;
    for (size_t b = 0; b < bits.size(); ++b) order.emplace_back(-columns.balance(b), bits[b]);
    std::sort(order.begin(), order.end());
    std::vector<uint32_t> best;
    for (size_t b = 0; b < n; ++b) best.push_back(order[b].second);
    return best;
}

// What it takes to deal bits to keys of a shape and to estimate what meets in them, by so many sampled codes.
double choosing_ns(const Shape& shape, size_t n) {
    const double few = static_cast<double>(std::min(n, kSplitSample));
    double ns = static_cast<double>(shape.n_bits() * kLookedAt) * few * kDeal;
    for (size_t k = 0; k < shape.widths.size(); ++k) {
        const size_t asked = std::min(n_differences(shape.widths[k], shape.reaches[k]), kAsked);
        ns += static_cast<double>(n) * (kRead + kAsk * static_cast<double>(asked));
        ns += std::ldexp(kCount, static_cast<int>(shape.widths[k]));
    }
    return ns;
}

}  // namespace

Sample sample(const Target& target, size_t most) {
    size_t n_codes = 0;
    size_t n_words = 0;
    for (const Segment* segment : target.segments) {
        n_codes += segment->n_codes;
        n_words = std::max(n_words, segment->n_words);
    }
    Sample sample{{}, 0, n_words};
    const size_t n = std::min(most, n_codes);
    sample.words.resize(n * n_words);
    uint64_t random = 0x9e3779b97f4a7c15u;
    size_t s = 0;
    size_t before = 0;
    for (size_t i = 0; i < n; ++i) {
        if (i % 1024 == 0) checkpoint();
        const size_t begin = n_codes * i / n;
        const size_t end = n_codes * (i + 1) / n;
        random = random * 6364136223846793005u + 1442695040888963407u;
        const size_t place = begin + static_cast<size_t>(random >> 33) % (end - begin);
        while (place - before >= target.segments[s]->n_codes) before += target.segments[s++]->n_codes;
        const size_t slot = place - before;
        if ((target.segments[s]->visible(slot / kLanes, allowed_of(target, s)) >> slot % kLanes & 1) == 0) continue;
        target.segments[s]->row(slot, sample.words.data() + sample.n * n_words);
        ++sample.n;
    }
    return sample;
}

double key_ns(const Joined& joined, size_t n_bits, unsigned reach, double meetings) {
    const double words = static_cast<double>(joined.n_words);
    const double sort = joined.n * (kSort + kSortWord * words);
    const double n_masks = static_cast<double>(n_differences(n_bits, reach));
    if (joined.rows != nullptr)
        return sort + joined.n_rows * (kSort + n_masks * kLookup) + meetings * (kFarCompare + 0.3 * words);
    const double n_buckets = std::ldexp(1.0, static_cast<int>(n_bits));
    return sort + (n_masks + 1) / 2 * (n_buckets * kBucket + joined.n * kVisit) + meetings * (kCompare + 0.3 * words);
}

Choice choose_keys(const Joined& joined, const std::vector<Choosable>& sets, uint32_t radius, double flat_ns) {
    Choice best;
    double best_ns = flat_ns;
    double left_ns = flat_ns * kMostChoosing;  // for choosing
    size_t n_sampled = std::min(kSample, kSampleWords / std::max<size_t>(1, joined.n_words));
    Sample codes{{}, 0, 0};
    Sample few{{}, 0, 0};
    for (const Choosable& set : sets)
        for (const Shape& shape : shapes(joined, set.bits.size(), radius / set.weight)) {
            if (shape.least_ns >= best_ns) continue;
            if (codes.n == 0) {
                const double draw = kDraw * static_cast<double>(joined.n_words) * (joined.rows == nullptr ? 1 : 2);
                while (choosing_ns(shape, n_sampled) + draw * static_cast<double>(n_sampled) > left_ns)
                    if ((n_sampled /= 2) < kLeastSample) return best;
                left_ns -= draw * static_cast<double>(n_sampled);
                codes = sample(joined.codes, n_sampled);
                if (codes.n < kLeastSample) return best;
                if (joined.rows != nullptr) best.rows = sample(*joined.rows, n_sampled);
                few.n_words = codes.n_words;
                const size_t step = std::max<size_t>(1, codes.n / kSplitSample);
                for (size_t i = 0; i < codes.n && few.n < kSplitSample; i += step, ++few.n)
                    few.words.insert(few.words.end(), codes.row(i), codes.row(i) + codes.n_words);
            }
            left_ns -= choosing_ns(shape, n_sampled);
            if (left_ns < 0) return best;
            const std::vector<uint32_t> offered = best_bits(few, set.bits, kMostDealt * shape.n_bits());
            std::vector<Key> keys = deal(Columns(few, offered), offered, shape.reaches, shape.widths);
            const double pairs = joined.n * (joined.rows == nullptr ? joined.n / 2 : joined.n_rows);
            std::vector<double> ns;
            double total = 0;
            for (const Key& key : keys) {
                checkpoint();
                ns.push_back(key_ns(joined, key.bits.size(), key.reach, share_met(codes, best.rows, key) * pairs));
                total += ns.back();
                if (total >= best_ns) break;
            }
            if (total >= best_ns) continue;
            best_ns = total;
            best.keys = std::move(keys);
            best.ns = std::move(ns);
        }
    return best;
}

double met_by_a_row(const Buckets& buckets, const Key& key, const Sample& rows) {
    return average_met(key, rows, [&](uint32_t value) { return buckets.starts[value + 1] - buckets.starts[value]; });
}

}  // namespace pyhash
