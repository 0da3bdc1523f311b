// Products of int8 rows, and of weights with codes.
#include "bindings/arguments.h"
#include "hamming/cpu/cpu.h"
#include "hamming/dot/dot.h"

namespace pyhash {
namespace bindings {
namespace {

const Multiplier& multiplier_for(const Kernel& kernel) { return multiplier_of(kernel, cpu_features()); }

Int8Rows as_rows(const Array<int8_t>& rows) {
    require(rows.ndim() == 2 && static_cast<size_t>(rows.shape(1)) <= kMaxDim, "rows must have shape (n, dim), dim at most 65536");
    return {rows.data(), static_cast<size_t>(rows.shape(0)), static_cast<size_t>(rows.shape(1))};
}

Array<int32_t> squares(const Kernel& kernel, const Array<int8_t>& rows, unsigned threads) {
    const Int8Rows some = as_rows(rows);
    Array<int32_t> found(static_cast<py::ssize_t>(some.n));
    int32_t* to = found.mutable_data();
    without_gil([&] { ::pyhash::squares(multiplier_for(kernel), some, threads, to); });
    return found;
}

py::tuple similar(const Kernel& kernel, const Array<int8_t>& queries, const Array<int8_t>& rows,
                  const Array<int32_t>& row_squares, size_t k, const std::optional<Array<int64_t>>& without, unsigned threads) {
    const Int8Rows q = as_rows(queries);
    const Int8Rows r = as_rows(rows);
    require(q.dim == r.dim, "queries and rows must be of one width");
    require(row_squares.ndim() == 1 && static_cast<size_t>(row_squares.size()) == r.n, "row_squares must have one entry a row");
    require(!without || (without->ndim() == 1 && static_cast<size_t>(without->size()) == q.n),
            "without must have one entry a query");
    Array<double> similarities({q.n, k});
    Array<int64_t> places({q.n, k});
    const int64_t* left_out = without ? without->data() : nullptr;
    const int32_t* own = row_squares.data();
    double* s = similarities.mutable_data();
    int64_t* p = places.mutable_data();
    without_gil([&] { ::pyhash::similar(multiplier_for(kernel), q, r, own, k, left_out, threads, s, p); });
    return py::make_tuple(std::move(similarities), std::move(places));
}

size_t places_per_query(const Array<int64_t>& places, size_t n_queries) {
    require(places.ndim() == 2 && static_cast<size_t>(places.shape(0)) == n_queries, "places must have one row a query");
    return static_cast<size_t>(places.shape(1));
}

py::tuple products(const Kernel& kernel, const Array<int8_t>& queries, const Array<int8_t>& rows, const Array<int64_t>& places,
                   unsigned threads) {
    const Int8Rows q = as_rows(queries);
    const Int8Rows r = as_rows(rows);
    require(q.dim == r.dim, "queries and rows must be of one width");
    const size_t n_places = places_per_query(places, q.n);
    Array<int32_t> dots({q.n, n_places});
    Array<int32_t> row_squares({q.n, n_places});
    const int64_t* from = places.data();
    int32_t* d = dots.mutable_data();
    int32_t* s = row_squares.mutable_data();
    without_gil([&] { ::pyhash::products(multiplier_for(kernel), q, r, from, n_places, threads, d, s); });
    return py::make_tuple(std::move(dots), std::move(row_squares));
}

Array<int32_t> signed_sums(const Kernel&, const Array<int16_t>& weights, const Array<uint8_t>& codes,
                           const Array<int64_t>& places, unsigned threads) {
    require(weights.ndim() == 2, "weights must have shape (n, bits)");
    require(codes.ndim() == 2, "codes must have shape (n, n_bytes)");
    const size_t n = static_cast<size_t>(weights.shape(0));
    const size_t bits = static_cast<size_t>(weights.shape(1));
    const Codes all = {codes.data(), static_cast<size_t>(codes.shape(0)), static_cast<size_t>(codes.shape(1))};
    require(bits <= 8 * all.n_bytes, "weights must be at most one a bit");
    const size_t n_places = places_per_query(places, n);
    Array<int32_t> sums({n, n_places});
    const int16_t* w = weights.data();
    const int64_t* from = places.data();
    int32_t* to = sums.mutable_data();
    without_gil([&] { ::pyhash::signed_sums(w, n, bits, all, from, n_places, threads, to); });
    return sums;
}

}  // namespace

void bind_products(py::class_<Kernel>& kernel) {
    kernel.def("squares", &squares, py::arg("rows"), py::arg("threads"))
        .def("similar", &similar, py::arg("queries"), py::arg("rows"), py::arg("row_squares"), py::arg("k"),
             py::arg("without").none(true), py::arg("threads"))
        .def("products", &products, py::arg("queries"), py::arg("rows"), py::arg("places"), py::arg("threads"))
        .def("signed_sums", &signed_sums, py::arg("weights"), py::arg("codes"), py::arg("places"), py::arg("threads"));
}

}  // namespace bindings
}  // namespace pyhash
