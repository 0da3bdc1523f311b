// Searches side by side on shared segments, with a writer now and then: what Python's readers-writer lock lets happen.
// The reference checks every answer; ThreadSanitizer checks the rest.
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "hamming/cpu/cpu.h"
#include "hamming/kernels/dispatch.h"
#include "ring_store.h"
#include "test.h"

namespace pyhash {
namespace test {
namespace {

// Runs bodies side by side; the first exception of any is thrown again.
void side_by_side(const std::vector<std::function<void()>>& bodies) {
    std::mutex mutex;
    std::exception_ptr error;
    std::vector<std::thread> threads;
    for (const std::function<void()>& body : bodies)
        threads.emplace_back([&] {
            try {
                body();
            } catch (...) {
                const std::lock_guard<std::mutex> lock(mutex);
                if (!error) error = std::current_exception();
            }
        });
    for (std::thread& thread : threads) thread.join();
    if (error) std::rethrow_exception(error);
}

void readers() {
    Random random(19);
    const size_t rounds = full_or(6, 2);
    const Store flat(random, clustered_rows(random, 4000, 2, 30, 10), 8);
    const RingStore ring(random, clustered_rows(random, 6000, 2, 100, 20), 60, 8);
    const Rows queries = clustered_rows(random, 250, 2, 30, 10);
    const Metric plain;
    const Database of_flat{{&flat}};
    const Database of_ring{{&ring}};
    const Reference flat_reference(best_kernel(), of_flat, queries, plain);
    const Reference ring_reference(best_kernel(), of_ring, queries, plain);
    const Reference other_reference(*runnable_kernels(cpu_features()).back(), of_ring, queries, plain);
    const auto body = [&](const Reference& reference, unsigned n_threads) {
        return [&reference, n_threads, rounds] {
            for (size_t round = 0; round < rounds; ++round) {
                reference.check_topk(10, n_threads);
                reference.check_within(25, n_threads);
            }
        };
    };
    side_by_side({
        body(flat_reference, 1),
        body(flat_reference, 3),
        body(ring_reference, 2),
        body(ring_reference, 4),
        body(other_reference, 2),  // a kernel belongs to a call, so that another may be used beside it
        [&] {
            const Store few(random, clustered_rows(random, 600, 2, 9, 10), 2);
            for (size_t round = 0; round < rounds; ++round) check_pairs(best_kernel(), Database{{&few}}, 15, 3);
        },
    });
}

// A store that grows under a readers-writer lock: a search sees all of an addition or none.
void readers_and_a_writer() {
    constexpr size_t kWords = 2;
    const size_t n_steps = full_or(40, 10);
    const size_t step = 100;
    Random random(20);
    const Rows codes = clustered_rows(random, n_steps * step, kWords, 20, 9);
    const Rows queries = clustered_rows(random, 200, kWords, 20, 9);
    const Metric plain;

    std::mutex turn;
    std::shared_mutex lock;
    std::vector<uint64_t> blocks(n_steps * step / kLanes * kWords * kLanes + kWords * kLanes, 0);
    std::vector<uint64_t> dead(n_steps * step / kLanes + 1, 0);
    Segment segment;
    segment.chunks = {blocks.data()};
    segment.blocks_per_chunk = dead.size();
    segment.n_words = kWords;
    segment.dead = dead.data();
    std::atomic<bool> done{false};

    const auto reader = [&](unsigned n_threads) {
        return [&, n_threads] {
            std::vector<int32_t> distances(queries.size() * 5);
            std::vector<int64_t> ids(queries.size() * 5);
            do {
                { const std::lock_guard<std::mutex> pass(turn); }  // while a writer waits no reader begins
                const std::shared_lock<std::shared_mutex> shared(lock);
                topk(best_kernel(), {{&segment}, {}}, queries.queries(), plain, 5, n_threads, distances.data(), ids.data());
                const std::vector<std::vector<Candidate>> near =
                    within(best_kernel(), {{&segment}, {}}, queries.queries(), plain, 10, n_threads);
                for (size_t j = 0; j < queries.size(); ++j) {
                    size_t n_near = 0;
                    for (size_t i = 0; i < segment.n_codes; ++i)
                        n_near += i % 7 != 0 && slow_distance(queries.row(j), codes.row(i), kWords, plain) <= 10;
                    CHECK_IN(near[j].size() == n_near, "codes", segment.n_codes, "query", j);
                    for (size_t i = 0; i < 5; ++i) {
                        const int64_t id = ids[j * 5 + i];
                        if (id == kPadId) continue;
                        CHECK_IN(id % 7 != 0 && id < static_cast<int64_t>(segment.n_codes), "id", id);
                        CHECK(static_cast<uint64_t>(distances[j * 5 + i]) ==
                              slow_distance(queries.row(j), codes.row(static_cast<size_t>(id)), kWords, plain));
                    }
                }
            } while (!done);
        };
    };
    side_by_side({
        reader(1),
        reader(2),
        reader(4),
        [&] {
            for (size_t n = 0; n < codes.size(); n += step) {
                {
                    const std::lock_guard<std::mutex> waiting(turn);
                    const std::unique_lock<std::shared_mutex> exclusive(lock);
                    for (size_t i = n; i < n + step; ++i) {
                        for (size_t w = 0; w < kWords; ++w)
                            blocks[((i / kLanes) * kWords + w) * kLanes + i % kLanes] = codes.row(i)[w];
                        if (i % 7 == 0) dead[i / kLanes] |= uint64_t{1} << (i % kLanes);
                    }
                    segment.n_codes = n + step;
                }
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
            done = true;
        },
    });
}

}  // namespace

void test_concurrent() {
    run("concurrent/readers", readers);
    run("concurrent/readers_and_a_writer", readers_and_a_writer);
}

}  // namespace test
}  // namespace pyhash
