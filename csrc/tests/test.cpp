#include "test.h"

#include <algorithm>
#include <bitset>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <limits>
#include <set>
#include <stdexcept>

#include "hamming/cpu/cpu.h"
#include "hamming/kernels/dispatch.h"

namespace pyhash {
namespace test {
namespace {

bool is_quick = false;
std::vector<std::string> wanted;  // groups; empty means all
size_t n_passed = 0;
size_t n_failed = 0;
size_t n_skipped = 0;

bool in_order(const Pair& a, const Pair& b) { return a.i != b.i ? a.i < b.i : a.j < b.j; }

}  // namespace

bool quick() { return is_quick; }

void fail(const char* file, int line, const std::string& what) {
    throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

void run(const std::string& name, const std::function<void()>& test) {
    const auto begin = std::chrono::steady_clock::now();
    try {
        test();
        ++n_passed;
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        std::printf("ok    %s (%.2f s)\n", name.c_str(), seconds.count());
    } catch (const std::exception& error) {
        ++n_failed;
        std::printf("FAIL  %s\n      %s\n", name.c_str(), error.what());
    }
    std::fflush(stdout);
}

void skip(const std::string& name, const std::string& why) {
    ++n_skipped;
    std::printf("skip  %s: %s\n", name.c_str(), why.c_str());
}

void run_on_kernels(const std::string& name, const std::function<void(const Kernel&)>& test) {
    for (const Kernel* kernel : compiled_kernels()) {
        const std::string id = name + "/" + kernel->name;
        if ((kernel->features & ~cpu_features()) == 0)
            run(id, [&] { test(*kernel); });
        else
            skip(id, "this CPU cannot run it");
    }
}

const Kernel& best_kernel() { return *runnable_kernels(cpu_features()).front(); }

uint64_t slow_distance(const uint64_t* a, const uint64_t* b, size_t n_words, const Metric& metric) {
    uint64_t sum = 0;
    if (metric.terms.empty())
        for (size_t w = 0; w < n_words; ++w) sum += std::bitset<64>(a[w] ^ b[w]).count();
    for (const Term& term : metric.terms)
        sum += std::bitset<64>((a[term.word] ^ b[term.word]) & term.mask).count() * uint64_t{term.weight};
    return sum;
}

Rows uniform_rows(Random& random, size_t n, size_t n_words) {
    Rows rows{n_words, std::vector<uint64_t>(n * n_words)};
    for (uint64_t& word : rows.words) word = random.word();
    return rows;
}

void flip_bits(Random& random, uint64_t* row, size_t n_words, size_t n_flips) {
    const size_t n_bits = 64 * n_words;
    const bool complement = n_flips > n_bits / 2;  // choose those that stay instead: few draws are in vain
    if (complement) n_flips = n_bits - n_flips;
    std::vector<bool> chosen(n_bits, false);
    while (n_flips > 0) {
        const size_t bit = random.below(n_bits);
        if (chosen[bit]) continue;
        chosen[bit] = true;
        --n_flips;
    }
    for (size_t bit = 0; bit < n_bits; ++bit)
        if (chosen[bit] != complement) row[bit / 64] ^= uint64_t{1} << (bit % 64);
}

Rows rows_round(Random& random, size_t n, const uint64_t* centre, size_t n_words) {
    Rows rows{n_words, std::vector<uint64_t>(n * n_words)};
    for (size_t i = 0; i < n; ++i) {
        std::copy_n(centre, n_words, rows.row(i));
        flip_bits(random, rows.row(i), n_words, random.below(64 * n_words + 1));
    }
    return rows;
}

Rows clustered_rows(Random& random, size_t n, size_t n_words, size_t n_clusters, size_t one_in) {
    const Rows centres = uniform_rows(random, n_clusters, n_words);
    Rows rows{n_words, std::vector<uint64_t>(n * n_words)};
    for (size_t i = 0; i < n; ++i) {
        std::copy_n(centres.row(random.below(n_clusters)), n_words, rows.row(i));
        for (size_t bit = 0; bit < 64 * n_words; ++bit)
            if (random.one_in(one_in)) rows.row(i)[bit / 64] ^= uint64_t{1} << (bit % 64);
    }
    return rows;
}

Store::Store(Random& random, const Rows& codes, size_t blocks_per_chunk, bool misaligned) : rows(codes) {
    const size_t n = codes.size();
    const size_t n_words = codes.n_words;
    segment.n_codes = n;
    segment.n_words = n_words;
    segment.blocks_per_chunk = blocks_per_chunk;
    segment.first_id = 1000;
    for (size_t b = 0; b < segment.n_blocks(); b += blocks_per_chunk) {
        const size_t n_blocks = std::min(blocks_per_chunk, segment.n_blocks() - b);
        const size_t room = n_blocks * n_words * kLanes;
        // As new aligns at 16 bytes, one word of room makes it 8.
        memory_.emplace_back(new uint64_t[room + misaligned]);
        uint64_t* blocks = memory_.back().get() + misaligned;
        for (size_t i = 0; i < room; ++i) blocks[i] = random.word();
        for (size_t s = b * kLanes; s < std::min(n, (b + n_blocks) * kLanes); ++s)
            for (size_t w = 0; w < n_words; ++w)
                blocks[((s / kLanes - b) * n_words + w) * kLanes + s % kLanes] = codes.row(s)[w];
        segment.chunks.push_back(blocks);
    }
    for (size_t i = 0; i < n; ++i) ids.push_back(segment.first_id + static_cast<int64_t>(i));
    dead.assign(n, false);
}

void Store::set_ids(std::vector<int64_t> new_ids) {
    ids = std::move(new_ids);
    segment.ids = ids.data();
}

std::vector<uint64_t> bit_words(const std::vector<bool>& bits) {
    std::vector<uint64_t> out((bits.size() + kLanes - 1) / kLanes, 0);
    for (size_t i = 0; i < bits.size(); ++i)
        if (bits[i]) out[i / kLanes] |= uint64_t{1} << (i % kLanes);
    return out;
}

void Store::set_dead(const std::vector<bool>& new_dead) {
    dead = new_dead;
    dead_words_ = bit_words(dead);
    segment.dead = dead_words_.data();
}

Database::Database(std::vector<const Store*> all, std::vector<std::vector<bool>> masks)
    : stores(std::move(all)), allowed(std::move(masks)) {
    for (const Store* store : stores) target.segments.push_back(&store->segment);
    for (const std::vector<bool>& mask : allowed) allowed_words_.push_back(bit_words(mask));
    for (const std::vector<uint64_t>& mask : allowed_words_) target.allowed.push_back(mask.data());
}

size_t Database::n_codes() const {
    size_t n = 0;
    for (const Store* store : stores) n += store->rows.size();
    return n;
}

Reference::Reference(const Kernel& kernel, const Database& database, const Rows& queries, const Metric& metric)
    : kernel_(kernel), database_(database), queries_(queries), metric_(metric), ranked_(queries.size()) {
    for (size_t j = 0; j < queries.size(); ++j) {
        for (size_t s = 0; s < database.stores.size(); ++s) {
            const Store& store = *database.stores[s];
            for (size_t i = 0; i < store.rows.size(); ++i) {
                if (store.dead[i] || (!database.allowed.empty() && !database.allowed[s][i])) continue;
                const uint64_t distance = slow_distance(queries.row(j), store.rows.row(i), queries.n_words, metric);
                ranked_[j].push_back({static_cast<uint32_t>(distance), store.ids[i]});
            }
        }
        std::sort(ranked_[j].begin(), ranked_[j].end());
    }
}

void Reference::check_topk(size_t k, unsigned threads) const {
    constexpr int32_t kUntouched = -7;
    std::vector<int32_t> distances(queries_.size() * k, kUntouched);
    std::vector<int64_t> ids(queries_.size() * k, kUntouched);
    topk(kernel_, database_.target, queries_.queries(), metric_, k, threads, distances.data(), ids.data());
    for (size_t j = 0; j < queries_.size(); ++j)
        for (size_t i = 0; i < k; ++i) {
            const std::vector<Candidate>& ranked = ranked_[j];
            const int32_t distance = i < ranked.size() ? static_cast<int32_t>(ranked[i].distance) : kPadDistance;
            const int64_t id = i < ranked.size() ? ranked[i].id : kPadId;
            CHECK_IN(distances[j * k + i] == distance && ids[j * k + i] == id, "query", j, "of", queries_.size(), "place", i,
                     "k", k, "codes", database_.n_codes(), "n_words", queries_.n_words, "threads", threads, "got (",
                     distances[j * k + i], ids[j * k + i], ") not (", distance, id, ")");
        }
}

void Reference::check_within(uint32_t radius, unsigned threads, double dearer) const {
    const std::vector<std::vector<Candidate>> found =
        within(kernel_, database_.target, queries_.queries(), metric_, radius, threads, kAnyRoom, dearer);
    CHECK(found.size() == queries_.size());
    for (size_t j = 0; j < queries_.size(); ++j) {
        const std::vector<Candidate>& ranked = ranked_[j];
        size_t n = 0;
        while (n < ranked.size() && ranked[n].distance <= radius) ++n;
        CHECK_IN(found[j].size() == n, "query", j, "of", queries_.size(), "radius", radius, "codes", database_.n_codes(),
                 "n_words", queries_.n_words, "threads", threads, "got", found[j].size(), "not", n);
        for (size_t i = 0; i < n; ++i)
            CHECK_IN(found[j][i].distance == ranked[i].distance && found[j][i].id == ranked[i].id, "query", j, "of",
                     queries_.size(), "place", i, "radius", radius, "codes", database_.n_codes(), "n_words",
                     queries_.n_words, "threads", threads);
    }
}

void Reference::check_rerank(Random& random, size_t n_slots, size_t k, unsigned threads) const {
    std::vector<int64_t> id_of;  // by slot
    for (const Store* store : database_.stores) id_of.insert(id_of.end(), store->ids.begin(), store->ids.end());
    std::vector<int64_t> slots(queries_.size() * n_slots);
    for (int64_t& slot : slots)
        slot = id_of.empty() || random.one_in(5) ? -1 : static_cast<int64_t>(random.below(id_of.size()));
    std::vector<int32_t> distances(queries_.size() * k);
    std::vector<int64_t> ids(queries_.size() * k);
    rerank(kernel_, database_.target, queries_.queries(), slots.data(), n_slots, metric_, k, threads, distances.data(),
           ids.data());
    for (size_t j = 0; j < queries_.size(); ++j) {
        std::set<int64_t> wanted;
        for (size_t i = j * n_slots; i < (j + 1) * n_slots; ++i)
            if (slots[i] >= 0) wanted.insert(id_of[static_cast<size_t>(slots[i])]);
        size_t i = 0;
        for (const Candidate& candidate : ranked_[j]) {
            if (wanted.count(candidate.id) == 0 || i == k) continue;
            CHECK_IN(distances[j * k + i] == static_cast<int32_t>(candidate.distance) && ids[j * k + i] == candidate.id,
                     "query", j, "place", i, "of", k, "candidates", n_slots, "threads", threads);
            ++i;
        }
        for (; i < k; ++i) CHECK_IN(distances[j * k + i] == kPadDistance && ids[j * k + i] == kPadId, "query", j, "place", i);
    }
}

std::vector<Pair> joined(const Kernel& kernel, const Target& target, const Target* other, const Metric& metric, uint32_t radius,
                         unsigned threads, JoinReport* report, double dearer) {
    const Ranks left(target);
    const Ranks right(other != nullptr ? *other : target);
    FoundPairs found(left.size());
    const JoinReport done = other != nullptr
                                ? join(kernel, target, left, *other, right, metric, radius, threads, found, kAnyRoom, dearer)
                                : join(kernel, target, left, metric, radius, threads, found, kAnyRoom, dearer);
    if (report != nullptr) *report = done;
    const size_t n = found.size();
    std::vector<int64_t> i(n);
    std::vector<int64_t> j(n);
    std::vector<int32_t> distances(n);
    found.write(left, right, threads, i.data(), j.data(), distances.data());
    std::vector<Pair> pairs;
    for (size_t p = 0; p < n; ++p) pairs.push_back({i[p], j[p], static_cast<uint32_t>(distances[p])});
    return pairs;
}

JoinReport check_pairs(const Kernel& kernel, const Database& database, uint32_t radius, unsigned threads, const Database* other,
                       const Metric& metric, double dearer) {
    struct Code {
        int64_t id;
        const uint64_t* row;
    };
    size_t n_words = 0;
    const auto codes_of = [&](const Database& from) {
        std::vector<Code> codes;
        for (const Store* store : from.stores)
            for (size_t i = 0; i < store->rows.size(); ++i) {
                n_words = store->rows.n_words;
                if (!store->dead[i]) codes.push_back({store->ids[i], store->rows.row(i)});
            }
        std::sort(codes.begin(), codes.end(), [](const Code& a, const Code& b) { return a.id < b.id; });
        return codes;
    };
    const std::vector<Code> left = codes_of(database);
    const std::vector<Code> right = other != nullptr ? codes_of(*other) : left;
    std::vector<Pair> expected;
    for (size_t a = 0; a < left.size(); ++a)
        for (size_t b = other != nullptr ? 0 : a + 1; b < right.size(); ++b) {
            const uint64_t distance = slow_distance(left[a].row, right[b].row, n_words, metric);
            if (distance <= radius) expected.push_back({left[a].id, right[b].id, static_cast<uint32_t>(distance)});
        }
    JoinReport report;
    const std::vector<Pair> found =
        joined(kernel, database.target, other != nullptr ? &other->target : nullptr, metric, radius, threads, &report, dearer);
    CHECK_IN(found.size() == expected.size(), "codes", left.size(), "and", right.size(), "n_words", n_words, "radius", radius,
             "threads", threads, "keys", report.n_keys, "got", found.size(), "not", expected.size());
    for (size_t i = 0; i < expected.size(); ++i)
        CHECK_IN(!in_order(found[i], expected[i]) && !in_order(expected[i], found[i]) &&
                     found[i].distance == expected[i].distance,
                 "pair", i, "codes", left.size(), "n_words", n_words, "radius", radius, "threads", threads, "keys",
                 report.n_keys);
    return report;
}

}  // namespace test
}  // namespace pyhash

// tests [--quick] [GROUP...]
int main(int argc, char** argv) {
    using namespace pyhash::test;
    const struct {
        const char* name;
        void (*test)();
    } groups[] = {
        {"cpu", test_cpu},       {"kernels", test_kernels}, {"slicers", test_slicers}, {"topk", test_topk}, {"blocks", test_blocks},
        {"search", test_search}, {"ring", test_ring},     {"threads", test_threads}, {"probes", test_probes}, {"join", test_join}, {"pack", test_pack}, {"dot", test_dot},
        {"concurrent", test_concurrent},
    };
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--quick") == 0) {
            is_quick = true;
            continue;
        }
        bool known = false;
        for (const auto& group : groups) known = known || std::strcmp(argv[i], group.name) == 0;
        if (!known) {
            std::fprintf(stderr, "no group of tests is called %s; there are:", argv[i]);
            for (const auto& group : groups) std::fprintf(stderr, " %s", group.name);
            std::fprintf(stderr, "\n");
            return 2;
        }
        wanted.push_back(argv[i]);
    }
    for (const auto& group : groups)
        if (wanted.empty() || std::find(wanted.begin(), wanted.end(), group.name) != wanted.end()) group.test();
    if (n_skipped != 0) std::printf("%zu skipped\n", n_skipped);
    std::printf("%zu passed, %zu failed\n", n_passed, n_failed);
    return n_failed == 0 && n_passed != 0 ? 0 : 1;
}
