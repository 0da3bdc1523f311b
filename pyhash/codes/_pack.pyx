# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True
# distutils: language = c++
"""Walks over rows of numbers of any type and stride and packs them into codes, and unpacks codes: for `pyhash.codes`.

What packs sixteen columns is chosen among the kernels of csrc/hamming/pack.
"""

from libc.stdint cimport int8_t, int16_t, uint8_t, uint16_t
from libc.string cimport memcpy, memset

cdef extern from "hamming/pack/pack.h" namespace "pyhash" nogil:
    cppclass PackKernel:
        const char* name
        int (*f16)(const uint16_t*, const uint16_t*, size_t, uint8_t*, size_t)
        int (*f32)(const float*, const float*, size_t, uint8_t*, size_t)
        int (*f64)(const double*, const double*, size_t, uint8_t*, size_t)
        int (*i8)(const int8_t*, const int16_t*, size_t, uint8_t*, size_t)
        int (*u8)(const uint8_t*, const int16_t*, size_t, uint8_t*, size_t)
    const PackKernel& pack_kernel(const char* name)

cdef enum:
    TILE = 16

ctypedef fused number:
    float
    double
    int8_t
    uint8_t
    uint16_t  # the bits of a float16

# The eight 0 or 1 that a byte unpacks to.
cdef uint8_t[256][8] UNPACKED

cdef const PackKernel* active = &pack_kernel(NULL)

cdef int _i, _j
for _i in range(256):
    for _j in range(8):
        UNPACKED[_i][_j] = (_i >> (7 - _j)) & 1


cdef inline int pack_tiles(
    const PackKernel* kernel, const number* x, const void* limits, size_t step, uint8_t* code, size_t n
) noexcept nogil:
    """Pack n tiles of 16 columns; return whether one holds NaN (not 0)."""
    if number is float:
        return kernel.f32(x, <const float*> limits, step, code, n)
    elif number is double:
        return kernel.f64(x, <const double*> limits, step, code, n)
    elif number is int8_t:
        return kernel.i8(x, <const int16_t*> limits, step, code, n)
    elif number is uint8_t:
        return kernel.u8(x, <const int16_t*> limits, step, code, n)
    else:
        return kernel.f16(x, <const uint16_t*> limits, step, code, n)


cdef bint pack_rows(
    const number[:, :] rows, const uint8_t* limits, size_t limit_size, bint one_limit, uint8_t[:, ::1] codes
) noexcept nogil:
    """Pack all rows; return whether one holds NaN."""
    cdef const PackKernel* kernel = active
    cdef Py_ssize_t bits = rows.shape[1], stride = rows.strides[1]
    cdef Py_ssize_t n_tiles = bits // TILE
    cdef Py_ssize_t whole = n_tiles * TILE
    cdef Py_ssize_t left = bits - whole
    cdef size_t step = 0 if one_limit else TILE  # limits from tile to tile
    cdef bint contiguous = stride == sizeof(number)
    cdef const char* row
    cdef Py_ssize_t i, j, tile
    cdef int nan = 0
    cdef number[TILE] gathered
    cdef uint8_t[TILE * 8] repeated_limit
    cdef uint8_t[TILE * 8] last_limits
    cdef uint8_t[2] last_code
    if one_limit:
        for j in range(TILE):
            memcpy(repeated_limit + j * limit_size, limits, limit_size)
        limits = repeated_limit
    # Columns after the last are 0 against a limit of 0: no bit, no NaN.
    memset(last_limits, 0, sizeof(last_limits))
    memcpy(last_limits, limits + n_tiles * step * limit_size, left * limit_size)
    memset(gathered, 0, sizeof(gathered))
    for i in range(rows.shape[0]):
        row = <const char*> &rows[i, 0]
        if contiguous:
            nan |= pack_tiles(kernel, <const number*> row, limits, step, &codes[i, 0], n_tiles)
        else:
            for tile in range(n_tiles):
                for j in range(TILE):
                    gathered[j] = (<const number*> (row + (tile * TILE + j) * stride))[0]
                nan |= pack_tiles(
                    kernel, <const number*> gathered, limits + tile * step * limit_size, step, &codes[i, 2 * tile], 1
                )
        if left:
            for j in range(left):
                gathered[j] = (<const number*> (row + (whole + j) * stride))[0]
            for j in range(left, TILE):
                gathered[j] = 0
            nan |= pack_tiles(kernel, <const number*> gathered, last_limits, 0, last_code, 1)
            memcpy(&codes[i, 2 * n_tiles], last_code, 2 if left > 8 else 1)
    return nan != 0


def pack(const number[:, :] rows, limits not None, uint8_t[:, ::1] codes not None):
    """Set each bit whose number is above its column's limit; return whether there is a NaN.

    rows: (n, bits) float32, float64, int8, uint8, or float16 viewed as uint16; any strides, aligned.
    limits: (bits,), or (1,) for all columns, of the type of `rows`; int16 for int8 and uint8. No float16 limit is -0.
    codes: (n, ceil(bits / 8)), written.
    """
    cdef const uint8_t[::1] limit_bytes = limits.view("u1")
    cdef size_t limit_size = limits.itemsize
    cdef bint one_limit = len(limits) == 1
    cdef bint nan
    if codes.shape[0] != rows.shape[0] or codes.shape[1] != (rows.shape[1] + 7) // 8:
        raise ValueError("codes must have one row a row and one byte for eight columns")
    if limit_size != (2 if sizeof(number) == 1 else sizeof(number)) or not (one_limit or len(limits) == rows.shape[1]):
        raise ValueError("limits must have one entry, or one a column")
    if rows.shape[0] == 0 or rows.shape[1] == 0:
        return False
    with nogil:
        nan = pack_rows(rows, &limit_bytes[0], limit_size, one_limit, codes)
    return nan


def use(str name):
    """Pack as the search kernel of this name may, or as fast as this CPU can ("auto"); return the kernel's name."""
    global active
    cdef bytes wanted = name.encode()
    cdef const char* text = NULL
    if name != "auto":
        text = wanted
    active = &pack_kernel(text)
    return active.name.decode()


def kernel():
    """Name the kernel in use."""
    return active.name.decode()


def unpack(const uint8_t[:, :] codes not None, uint8_t[:, ::1] bits not None):
    """Write each bit of the codes as one 0 or 1.

    codes: (n, n_bytes); bits: (n, up to 8 * n_bytes), written.
    """
    cdef Py_ssize_t n = codes.shape[0], whole = bits.shape[1] // 8, left = bits.shape[1] % 8
    cdef Py_ssize_t i, j
    cdef uint8_t* out
    if bits.shape[0] != n or codes.shape[1] != whole + (left > 0):
        raise ValueError("bits must have one row a code and eight columns a byte")
    with nogil:
        for i in range(n):
            out = &bits[i, 0]
            for j in range(whole):
                memcpy(out + 8 * j, UNPACKED[codes[i, j]], 8)
            if left:
                memcpy(out + 8 * whole, UNPACKED[codes[i, whole]], left)
