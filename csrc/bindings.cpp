// The only file that sees Python: check what memory safety needs, release the GIL, call. Everything else was checked in
// Python, and pyhash/_native.pyi says what each function takes and returns.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "hamming/cpu.h"
#include "hamming/dispatch.h"
#include "hamming/search.h"

namespace py = pybind11;
using pyhash::kLanes;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

// A segment and the arrays that own its memory.
struct SegmentView {
    pyhash::Segment segment;
    size_t capacity = 0;
    std::vector<py::object> owners;

    SegmentView(const std::vector<Array<uint64_t>>& chunks, size_t n_codes, int64_t first_id,
                const std::optional<Array<int64_t>>& ids, const std::optional<Array<uint64_t>>& dead) {
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
    {
        const py::gil_scoped_release release;
        pyhash::topk(target, q, m, k, threads, d, i);
    }
    return py::make_tuple(std::move(distances), std::move(ids));
}

py::tuple within(const std::vector<SegmentView*>& segments, const Array<uint64_t>& queries, const pyhash::Metric* metric,
                 uint32_t radius, const Allowed& allowed, unsigned threads) {
    const pyhash::Queries q = as_queries(queries);
    const pyhash::Target target = as_target(segments, allowed, q.n_words);
    const pyhash::Metric& m = checked(metric, q.n_words);
    std::vector<std::vector<pyhash::Candidate>> found;
    {
        const py::gil_scoped_release release;
        found = pyhash::within(target, q, m, radius, threads);
    }
    Array<int64_t> offsets(static_cast<py::ssize_t>(q.n + 1));
    int64_t* o = offsets.mutable_data();
    o[0] = 0;
    for (size_t j = 0; j < q.n; ++j) o[j + 1] = o[j] + static_cast<int64_t>(found[j].size());
    Array<int32_t> distances(static_cast<py::ssize_t>(o[q.n]));
    Array<int64_t> ids(static_cast<py::ssize_t>(o[q.n]));
    int32_t* d = distances.mutable_data();
    int64_t* i = ids.mutable_data();
    {
        const py::gil_scoped_release release;
        for (std::vector<pyhash::Candidate>& list : found) {
            for (const pyhash::Candidate& c : list) {
                *d++ = static_cast<int32_t>(c.distance);
                *i++ = c.id;
            }
            std::vector<pyhash::Candidate>().swap(list);
        }
    }
    return py::make_tuple(std::move(offsets), std::move(distances), std::move(ids));
}

py::tuple pairs(const std::vector<SegmentView*>& segments, uint32_t radius, unsigned threads) {
    const size_t n_words = segments.empty() ? 0 : segments[0]->segment.n_words;
    const pyhash::Target target = as_target(segments, std::nullopt, n_words);
    std::vector<pyhash::Pair> found;
    {
        const py::gil_scoped_release release;
        found = pyhash::pairs(target, radius, threads);
    }
    const py::ssize_t n = static_cast<py::ssize_t>(found.size());
    Array<int64_t> i(n);
    Array<int64_t> j(n);
    Array<int32_t> distances(n);
    int64_t* pi = i.mutable_data();
    int64_t* pj = j.mutable_data();
    int32_t* pd = distances.mutable_data();
    {
        const py::gil_scoped_release release;
        for (const pyhash::Pair& pair : found) {
            *pi++ = pair.i;
            *pj++ = pair.j;
            *pd++ = static_cast<int32_t>(pair.distance);
        }
    }
    return py::make_tuple(std::move(i), std::move(j), std::move(distances));
}

Array<int32_t> hamming(const Array<uint64_t>& a, const Array<uint64_t>& b, unsigned threads) {
    const pyhash::Queries left = as_queries(a);
    const pyhash::Queries right = as_queries(b);
    require(left.n_words == right.n_words, "a and b must be of one width");
    Array<int32_t> distances({left.n, right.n});
    int32_t* d = distances.mutable_data();
    {
        const py::gil_scoped_release release;
        pyhash::hamming(left, right, threads, d);
    }
    return distances;
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
                      const std::optional<Array<uint64_t>>&>(),
             py::arg("chunks"), py::arg("n_codes"), py::arg("first_id"), py::arg("ids").none(true),
             py::arg("dead").none(true));
    py::class_<pyhash::Metric>(m, "Metric")
        .def(py::init(&make_metric), py::arg("words"), py::arg("masks"), py::arg("weights"));

    m.def("topk", &topk, py::arg("segments"), py::arg("queries"), py::arg("metric").none(true), py::arg("k"),
          py::arg("allowed").none(true), py::arg("threads"));
    m.def("within", &within, py::arg("segments"), py::arg("queries"), py::arg("metric").none(true), py::arg("radius"),
          py::arg("allowed").none(true), py::arg("threads"));
    m.def("pairs", &pairs, py::arg("segments"), py::arg("radius"), py::arg("threads"));
    m.def("hamming", &hamming, py::arg("a"), py::arg("b"), py::arg("threads"));

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
