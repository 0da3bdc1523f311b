// The only file that sees Python: check what memory safety needs, release the GIL, call. Everything else was checked in
// Python, and pyhash/_native.pyi says what each function takes and returns.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

#include "hamming/cpu.h"
#include "hamming/dispatch.h"
#include "hamming/machine.h"
#include "hamming/ring.h"
#include "hamming/search.h"

namespace py = pybind11;
using pyhash::kLanes;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

// Takes the GIL back. When the interpreter is at its end, Python up to 3.13 ends the thread that asks, by unwinding its
// stack where glibc has the say: through destructors, which would let go of Python objects without the GIL, and out of a
// destructor it would abort the process. So such a thread stays here, as Python 3.14 has it stay, until the process ends.
void take_gil(PyThreadState* state) {
#ifdef __GLIBCXX__
    try {
        PyEval_RestoreThread(state);
    } catch (const abi::__forced_unwind&) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
#else
    PyEval_RestoreThread(state);
#endif
}

// Does work while other threads may run Python.
template <class Work>
void without_gil(Work&& work) {
    PyThreadState* state = PyEval_SaveThread();
    try {
        work();
    } catch (...) {
        take_gil(state);
        throw;
    }
    take_gil(state);
}

// Copies and checks what a stored ring is made of: search trusts it not to point outside.
std::unique_ptr<pyhash::Ring> make_ring(const pyhash::Segment& segment, const Array<uint64_t>& centres,
                                        const Array<uint32_t>& least, const Array<uint32_t>& first,
                                        const Array<uint32_t>& starts) {
    auto ring = std::make_unique<pyhash::Ring>();
    require(centres.ndim() == 3 && centres.shape(2) == static_cast<py::ssize_t>(kLanes) &&
                static_cast<size_t>(centres.shape(1)) == segment.n_words && segment.n_words <= pyhash::kMaxRingWords,
            "centres must have shape (blocks, n_words, 64)");
    const size_t n = static_cast<size_t>(least.size());
    require(n > 0 && n <= static_cast<size_t>(centres.shape(0)) * kLanes && first.size() == least.size() + 1,
            "least must have one entry a cluster, first one more");
    ring->centres.chunks.push_back(centres.data());
    ring->centres.blocks_per_chunk = static_cast<size_t>(centres.shape(0));
    ring->centres.n_codes = n;
    ring->centres.n_words = segment.n_words;
    ring->first.assign(first.data(), first.data() + n + 1);
    ring->starts.assign(starts.data(), starts.data() + starts.size());
    require(ring->first.front() == 0 && ring->first.back() == ring->starts.size(), "first must end where starts does");
    for (size_t i = 0; i < ring->starts.size(); ++i)
        require(ring->starts[i] <= segment.n_codes && (i == 0 || ring->starts[i - 1] <= ring->starts[i]),
                "starts must be slots in ascending order");
    for (size_t c = 0; c < n; ++c) {
        require(ring->first[c] + 2 <= ring->first[c + 1] && ring->first[c + 1] <= ring->starts.size(),
                "each cluster must have a ring and an end mark");
        const uint32_t rings = ring->first[c + 1] - ring->first[c] - 1;
        require(least.data()[c] + uint64_t{rings} - 1 <= 64 * segment.n_words, "radii must be distances");
        ring->add_cluster(least.data()[c], least.data()[c] + rings - 1);
    }
    return ring;
}

using RingArrays = std::tuple<Array<uint32_t>, Array<uint64_t>, Array<uint32_t>, Array<uint32_t>, Array<uint32_t>>;

// A segment and the arrays that own its memory.
struct SegmentView {
    pyhash::Segment segment;
    std::unique_ptr<pyhash::Ring> ring;
    size_t capacity = 0;
    std::vector<py::object> owners;

    SegmentView(const std::vector<Array<uint64_t>>& chunks, size_t n_codes, int64_t first_id,
                const std::optional<Array<int64_t>>& ids, const std::optional<Array<uint64_t>>& dead,
                const std::optional<RingArrays>& parts) {
        for (const Array<uint64_t>& chunk : chunks) {
            require(chunk.ndim() == 3 && chunk.shape(2) == static_cast<py::ssize_t>(kLanes),
                    "each chunk must have shape (blocks, n_words, 64)");
            const size_t blocks = static_cast<size_t>(chunk.shape(0));
            if (segment.chunks.empty()) {
                segment.n_words = static_cast<size_t>(chunk.shape(1));
                segment.blocks_per_chunk = blocks;
            }
            require(static_cast<size_t>(chunk.shape(1)) == segment.n_words, "chunks must have the same number of words");
            require(capacity % (segment.blocks_per_chunk * kLanes) == 0, "all chunks but the last must be of one size");
            require(blocks <= segment.blocks_per_chunk && blocks > 0, "no chunk may be larger than the first, or empty");
            capacity += blocks * kLanes;
            segment.chunks.push_back(chunk.data());
            owners.push_back(chunk);
        }
        require(n_codes <= capacity, "n_codes must fit in the chunks");
        segment.n_codes = n_codes;
        segment.first_id = first_id;
        if (ids) {
            require(ids->ndim() == 1 && static_cast<size_t>(ids->size()) >= n_codes, "ids must have one entry a code");
            segment.ids = ids->data();
            owners.push_back(*ids);
        }
        if (dead) {
            require(dead->ndim() == 1 && static_cast<size_t>(dead->size()) >= segment.n_blocks(),
                    "dead must have one word a block");
            segment.dead = dead->data();
            owners.push_back(*dead);
        }
        if (parts) {
            const auto& [order, centres, least, first, starts] = *parts;
            require(order.ndim() == 1 && static_cast<size_t>(order.size()) == n_codes, "order must have one entry a code");
            segment.order = order.data();
            owners.push_back(order);
            owners.push_back(centres);
            ring = make_ring(segment, centres, least, first, starts);
            segment.ring = ring.get();
        }
    }
};

pyhash::Metric make_metric(const Array<uint32_t>& words, const Array<uint64_t>& masks, const Array<uint32_t>& weights) {
    require(words.ndim() == 1 && words.size() > 0 && masks.size() == words.size() && weights.size() == words.size(),
            "words, masks and weights must have the same length");
    pyhash::Metric metric;
    for (py::ssize_t i = 0; i < words.size(); ++i) metric.terms.push_back({masks.at(i), words.at(i), weights.at(i)});
    return metric;
}

pyhash::Queries as_queries(const Array<uint64_t>& words) {
    require(words.ndim() == 2, "words must have shape (n, n_words)");
    return {words.data(), static_cast<size_t>(words.shape(0)), static_cast<size_t>(words.shape(1))};
}

using Allowed = std::optional<std::vector<Array<uint64_t>>>;

pyhash::Target as_target(const std::vector<SegmentView*>& views, const Allowed& allowed, size_t n_words) {
    pyhash::Target target;
    for (const SegmentView* view : views) {
        require(view->segment.n_codes == 0 || view->segment.n_words == n_words, "queries and codes must be of one width");
        target.segments.push_back(&view->segment);
    }
    if (allowed) {
        require(allowed->size() == views.size(), "allowed must have one array a segment");
        for (size_t s = 0; s < views.size(); ++s) {
            const Array<uint64_t>& mask = (*allowed)[s];
            require(mask.ndim() == 1 && static_cast<size_t>(mask.size()) >= views[s]->segment.n_blocks(),
                    "allowed must have one word a block");
            target.allowed.push_back(mask.data());
        }
    }
    return target;
}

const pyhash::Metric& checked(const pyhash::Metric* metric, size_t n_words) {
    static const pyhash::Metric plain;
    if (metric == nullptr) return plain;
    for (const pyhash::Term& term : metric->terms) require(term.word < n_words, "a term's word must be below n_words");
    return *metric;
}

py::tuple topk(const std::vector<SegmentView*>& segments, const Array<uint64_t>& queries, const pyhash::Metric* metric,
               size_t k, const Allowed& allowed, unsigned threads) {
    const pyhash::Queries q = as_queries(queries);
    const pyhash::Target target = as_target(segments, allowed, q.n_words);
    const pyhash::Metric& m = checked(metric, q.n_words);
    Array<int32_t> distances({q.n, k});
    Array<int64_t> ids({q.n, k});
    int32_t* d = distances.mutable_data();
    int64_t* i = ids.mutable_data();
    without_gil([&] {
        pyhash::topk(target, q, m, k, threads, d, i);
    });
    return py::make_tuple(std::move(distances), std::move(ids));
}

py::tuple within(const std::vector<SegmentView*>& segments, const Array<uint64_t>& queries, const pyhash::Metric* metric,
                 uint32_t radius, const Allowed& allowed, unsigned threads) {
    const pyhash::Queries q = as_queries(queries);
    const pyhash::Target target = as_target(segments, allowed, q.n_words);
    const pyhash::Metric& m = checked(metric, q.n_words);
    std::vector<std::vector<pyhash::Candidate>> found;
    without_gil([&] {
        found = pyhash::within(target, q, m, radius, threads);
    });
    Array<int64_t> offsets(static_cast<py::ssize_t>(q.n + 1));
    int64_t* o = offsets.mutable_data();
    o[0] = 0;
    for (size_t j = 0; j < q.n; ++j) o[j + 1] = o[j] + static_cast<int64_t>(found[j].size());
    Array<int32_t> distances(static_cast<py::ssize_t>(o[q.n]));
    Array<int64_t> ids(static_cast<py::ssize_t>(o[q.n]));
    int32_t* d = distances.mutable_data();
    int64_t* i = ids.mutable_data();
    without_gil([&] {
        for (std::vector<pyhash::Candidate>& list : found) {
            for (const pyhash::Candidate& c : list) {
                *d++ = static_cast<int32_t>(c.distance);
                *i++ = c.id;
            }
            std::vector<pyhash::Candidate>().swap(list);
        }
    });
    return py::make_tuple(std::move(offsets), std::move(distances), std::move(ids));
}

py::tuple pairs(const std::vector<SegmentView*>& segments, uint32_t radius, unsigned threads) {
    size_t n_words = 0;
    for (const SegmentView* view : segments) n_words = std::max(n_words, view->segment.n_words);
    const pyhash::Target target = as_target(segments, std::nullopt, n_words);
    std::vector<pyhash::Pair> found;
    without_gil([&] {
        found = pyhash::pairs(target, radius, threads);
    });
    const py::ssize_t n = static_cast<py::ssize_t>(found.size());
    Array<int64_t> i(n);
    Array<int64_t> j(n);
    Array<int32_t> distances(n);
    int64_t* pi = i.mutable_data();
    int64_t* pj = j.mutable_data();
    int32_t* pd = distances.mutable_data();
    without_gil([&] {
        for (const pyhash::Pair& pair : found) {
            *pi++ = pair.i;
            *pj++ = pair.j;
            *pd++ = static_cast<int32_t>(pair.distance);
        }
    });
    return py::make_tuple(std::move(i), std::move(j), std::move(distances));
}

Array<int32_t> hamming(const Array<uint64_t>& a, const Array<uint64_t>& b, unsigned threads) {
    const pyhash::Queries left = as_queries(a);
    const pyhash::Queries right = as_queries(b);
    require(left.n_words == right.n_words, "a and b must be of one width");
    Array<int32_t> distances({left.n, right.n});
    int32_t* d = distances.mutable_data();
    without_gil([&] {
        pyhash::hamming(left, right, threads, d);
    });
    return distances;
}

template <class T>
Array<T> as_array(const std::vector<T>& values) {
    Array<T> array(static_cast<py::ssize_t>(values.size()));
    std::copy(values.begin(), values.end(), array.mutable_data());
    return array;
}

void check_clusterable(const SegmentView& view) {
    const pyhash::Segment& segment = view.segment;
    require(segment.n_codes > 0 && segment.n_codes <= UINT32_MAX && segment.n_words <= pyhash::kMaxRingWords,
            "a ring needs 1 to 2**32 - 1 codes of at most 64 words");
    require(segment.dead == nullptr && segment.order == nullptr, "a ring is made of a flat segment without removed slots");
}

py::tuple choose_clusters(const SegmentView& view, unsigned threads) {
    check_clusterable(view);
    pyhash::RingChoice choice{};
    without_gil([&] {
        choice = pyhash::choose_clusters(view.segment, threads);
    });
    return py::make_tuple(choice.n_clusters, choice.share);
}

py::tuple build_ring(const SegmentView& view, size_t n_clusters, unsigned threads) {
    check_clusterable(view);
    require(n_clusters > 0, "n_clusters must be at least 1");
    pyhash::RingParts parts;
    without_gil([&] {
        parts = pyhash::build_ring(view.segment, n_clusters, threads);
    });
    return py::make_tuple(as_array(parts.order), as_array(parts.centres), as_array(parts.least), as_array(parts.first),
                          as_array(parts.starts));
}

void permute(const SegmentView& view, const Array<uint32_t>& order, std::vector<Array<uint64_t>>& chunks) {
    const pyhash::Segment& segment = view.segment;
    require(static_cast<size_t>(order.size()) == segment.n_codes, "order must have one entry a code");
    size_t room = 0;
    for (const Array<uint64_t>& chunk : chunks) {
        require(chunk.ndim() == 3 && static_cast<size_t>(chunk.shape(1)) == segment.n_words &&
                    chunk.shape(2) == static_cast<py::ssize_t>(kLanes) && chunk.writeable(),
                "each chunk must be writable and have shape (blocks, n_words, 64)");
        room += static_cast<size_t>(chunk.shape(0)) * kLanes;
    }
    require(room >= segment.n_codes, "the codes must fit in the chunks");
    const uint32_t* from = order.data();
    std::vector<std::pair<uint64_t*, size_t>> out;
    for (Array<uint64_t>& chunk : chunks) out.emplace_back(chunk.mutable_data(), static_cast<size_t>(chunk.shape(0)));
    without_gil([&] {
        size_t slot = 0;
        for (const auto& [blocks, n_blocks] : out)
            for (size_t i = 0; i < n_blocks * kLanes && slot < segment.n_codes; ++i, ++slot) {
                require(from[slot] < segment.n_codes, "order must name slots");
                const uint64_t* source = segment.block(from[slot] / kLanes) + from[slot] % kLanes;
                uint64_t* target = blocks + (i / kLanes) * segment.n_words * kLanes + i % kLanes;
                for (size_t w = 0; w < segment.n_words; ++w) target[w * kLanes] = source[w * kLanes];
            }
    });
}

std::vector<std::string> names(const std::vector<const pyhash::Kernel*>& kernels) {
    std::vector<std::string> list;
    for (const pyhash::Kernel* kernel : kernels) list.emplace_back(kernel->name);
    return list;
}

}  // namespace

PYBIND11_MODULE(_native, m, py::mod_gil_not_used()) {
    m.doc() = "The C++ core: exact Hamming search over blocked codes.";

    py::class_<SegmentView>(m, "Segment")
        .def(py::init<const std::vector<Array<uint64_t>>&, size_t, int64_t, const std::optional<Array<int64_t>>&,
                      const std::optional<Array<uint64_t>>&, const std::optional<RingArrays>&>(),
             py::arg("chunks"), py::arg("n_codes"), py::arg("first_id"), py::arg("ids").none(true),
             py::arg("dead").none(true), py::arg("ring").none(true) = py::none())
        .def("ring_counters", [](const SegmentView& view) -> py::object {
            if (!view.ring) return py::none();
            return py::make_tuple(view.ring->answered.load(), view.ring->handed_back.load(), view.ring->codes_scanned.load());
        });
    py::class_<pyhash::Metric>(m, "Metric")
        .def(py::init(&make_metric), py::arg("words"), py::arg("masks"), py::arg("weights"));

    m.def("topk", &topk, py::arg("segments"), py::arg("queries"), py::arg("metric").none(true), py::arg("k"),
          py::arg("allowed").none(true), py::arg("threads"));
    m.def("within", &within, py::arg("segments"), py::arg("queries"), py::arg("metric").none(true), py::arg("radius"),
          py::arg("allowed").none(true), py::arg("threads"));
    m.def("pairs", &pairs, py::arg("segments"), py::arg("radius"), py::arg("threads"));
    m.def("hamming", &hamming, py::arg("a"), py::arg("b"), py::arg("threads"));

    m.def("choose_clusters", &choose_clusters, py::arg("segment"), py::arg("threads"));
    m.def("build_ring", &build_ring, py::arg("segment"), py::arg("n_clusters"), py::arg("threads"));
    m.def("permute", &permute, py::arg("segment"), py::arg("order"), py::arg("chunks"));

    m.def(
        "read_words",
        [](const Array<uint64_t>& words) {
            const uint64_t* p = words.data();
            const size_t n = static_cast<size_t>(words.size());
            uint64_t sum = 0;
            without_gil([&] { sum = pyhash::read_words(p, n); });
            return sum;
        },
        py::arg("words"));
    m.def(
        "scan_cached",
        [](size_t n_words, size_t n_codes) {
            require(n_words > 0 && n_words <= 1024, "n_words must be 1 to 1024");
            size_t sum = 0;
            without_gil([&] { sum = pyhash::scan_cached(n_words, n_codes); });
            return sum;
        },
        py::arg("n_words"), py::arg("n_codes"));

    m.def("available_kernels", [] { return names(pyhash::runnable_kernels(pyhash::cpu_features())); });
    m.def("compiled_kernels", [] { return names(pyhash::compiled_kernels()); });
    m.def("get_kernel", [] { return std::string(pyhash::active_kernel().name); });
    m.def("set_kernel", [](const std::string& name) {
        if (!pyhash::set_active_kernel(name)) throw std::invalid_argument("no kernel named " + name + " can run here");
    });
    m.def("cpu_features", [] {
        std::vector<std::string> list;
        for (const pyhash::FeatureName& f : pyhash::kFeatureNames)
            if ((pyhash::cpu_features() & f.feature) != 0) list.emplace_back(f.name);
        return list;
    });
}
