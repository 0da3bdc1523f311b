# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: freethreading_compatible=True
"""Threshold and pack rows of numbers into codes, and unpack them: the inner loops of `pyhash.codes`."""

from libc.stdint cimport int8_t, int16_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy, memset

# Columns are taken 16 at a time. Plain loops of that length are for the compiler to turn into vector instructions; for
# float and double no compiler makes a compare-and-gather-bits of them, so there it is spelled out: in SSE2, which every
# x86-64 has, and for float in AVX2, chosen at run time.
cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #if defined(__SSE2__) || defined(_M_X64)
    #include <immintrin.h>
    #define PYHASH_SSE2 1

    /* Masks of four columns, the last one first: movemask then puts the first column in the highest bit. */
    #define PYHASH_ABOVE_F32X4(x, t) _mm_castps_si128(_mm_shuffle_ps( \\
        _mm_cmpgt_ps(x, t), _mm_cmpgt_ps(x, t), _MM_SHUFFLE(0, 1, 2, 3)))
    #define PYHASH_ABOVE_F64X4(x0, t0, x2, t2) _mm_castps_si128(_mm_shuffle_ps( \\
        _mm_castpd_ps(_mm_cmpgt_pd(x2, t2)), _mm_castpd_ps(_mm_cmpgt_pd(x0, t0)), _MM_SHUFFLE(0, 2, 0, 2)))

    static inline void pyhash_bits_16(__m128i a, __m128i b, __m128i c, __m128i d, uint8_t* code) {
        const int bits = _mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(b, a), _mm_packs_epi32(d, c)));
        code[0] = (uint8_t)bits;
        code[1] = (uint8_t)(bits >> 8);
    }

    static inline int pyhash_pack_16_f32(const float* x, const float* t, uint8_t* code) {
        const __m128 a = _mm_loadu_ps(x), b = _mm_loadu_ps(x + 4), c = _mm_loadu_ps(x + 8), d = _mm_loadu_ps(x + 12);
        pyhash_bits_16(PYHASH_ABOVE_F32X4(a, _mm_loadu_ps(t)), PYHASH_ABOVE_F32X4(b, _mm_loadu_ps(t + 4)),
                       PYHASH_ABOVE_F32X4(c, _mm_loadu_ps(t + 8)), PYHASH_ABOVE_F32X4(d, _mm_loadu_ps(t + 12)), code);
        return _mm_movemask_ps(_mm_or_ps(_mm_cmpunord_ps(a, b), _mm_cmpunord_ps(c, d)));
    }

    static inline int pyhash_pack_16_f64(const double* x, const double* t, uint8_t* code) {
        __m128i above[4];
        __m128d nan = _mm_setzero_pd();
        int i;
        for (i = 0; i < 4; ++i) {
            const __m128d a = _mm_loadu_pd(x + 4 * i), b = _mm_loadu_pd(x + 4 * i + 2);
            above[i] = PYHASH_ABOVE_F64X4(a, _mm_loadu_pd(t + 4 * i), b, _mm_loadu_pd(t + 4 * i + 2));
            nan = _mm_or_pd(nan, _mm_cmpunord_pd(a, b));
        }
        pyhash_bits_16(above[0], above[1], above[2], above[3], code);
        return _mm_movemask_pd(nan);
    }
    #else
    #define PYHASH_SSE2 0
    static inline int pyhash_pack_16_f32(const float* x, const float* t, uint8_t* code) { return 0; }
    static inline int pyhash_pack_16_f64(const double* x, const double* t, uint8_t* code) { return 0; }
    #endif

    #if PYHASH_SSE2 && defined(__GNUC__)
    #define PYHASH_ABOVE_F32X8(x, t) _mm256_castps_si256(_mm256_cmp_ps(x, _mm256_loadu_ps(t), _CMP_GT_OQ))

    /* Packs runs of 32 columns; step: from the limits of one run to those of the next. */
    __attribute__((target("avx2"))) static int pyhash_pack_32s_f32(
            const float* x, const float* t, ptrdiff_t step, uint8_t* code, ptrdiff_t n_runs) {
        /* The packs interleave the 128-bit halves: these two put the columns back in order, each eight back to front. */
        const __m256i quads = _mm256_setr_epi32(4, 0, 5, 1, 6, 2, 7, 3);
        const __m256i backwards = _mm256_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12,
                                                   3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
        __m256 nan = _mm256_setzero_ps();
        for (; n_runs > 0; --n_runs, x += 32, t += step, code += 4) {
            const __m256 a = _mm256_loadu_ps(x), b = _mm256_loadu_ps(x + 8);
            const __m256 c = _mm256_loadu_ps(x + 16), d = _mm256_loadu_ps(x + 24);
            const __m256i ab = _mm256_packs_epi32(PYHASH_ABOVE_F32X8(a, t), PYHASH_ABOVE_F32X8(b, t + 8));
            const __m256i cd = _mm256_packs_epi32(PYHASH_ABOVE_F32X8(c, t + 16), PYHASH_ABOVE_F32X8(d, t + 24));
            const __m256i marks = _mm256_permutevar8x32_epi32(
                _mm256_shuffle_epi8(_mm256_packs_epi16(ab, cd), backwards), quads);
            const int32_t bits = _mm256_movemask_epi8(marks);
            __builtin_memcpy(code, &bits, 4);
            nan = _mm256_or_ps(nan, _mm256_or_ps(_mm256_cmp_ps(a, b, _CMP_UNORD_Q), _mm256_cmp_ps(c, d, _CMP_UNORD_Q)));
        }
        return _mm256_movemask_ps(nan);
    }
    static int pyhash_have_avx2(void) { __builtin_cpu_init(); return __builtin_cpu_supports("avx2") != 0; }
    #else
    static int pyhash_pack_32s_f32(const float* x, const float* t, ptrdiff_t step, uint8_t* code, ptrdiff_t n_runs) { return 0; }
    static int pyhash_have_avx2(void) { return 0; }
    #endif
    """
    const bint PYHASH_SSE2
    bint pyhash_have_avx2() noexcept nogil
    int pyhash_pack_16_f32(const float* x, const float* t, uint8_t* code) noexcept nogil
    int pyhash_pack_16_f64(const double* x, const double* t, uint8_t* code) noexcept nogil
    int pyhash_pack_32s_f32(
        const float* x, const float* t, Py_ssize_t step, uint8_t* code, Py_ssize_t n_runs
    ) noexcept nogil

cdef enum:
    TILE = 16

ctypedef fused number:
    float
    double
    int8_t
    uint8_t
    uint16_t  # the bits of a float16

# The value of a column's bit within its byte, and the eight 0 or 1 that a byte unpacks to.
cdef uint8_t[TILE] WEIGHTS
cdef uint8_t[256][8] UNPACKED

cdef bint avx2 = pyhash_have_avx2()

cdef int _i, _j
for _i in range(TILE):
    WEIGHTS[_i] = 128 >> (_i & 7)
for _i in range(256):
    for _j in range(8):
        UNPACKED[_i][_j] = (_i >> (7 - _j)) & 1


cdef inline int16_t half_key(uint16_t bits) noexcept nogil:
    """Map the bits of a float16 to an integer of the same order (-0 just below 0)."""
    return <int16_t> (bits ^ ((<uint16_t> (<int16_t> bits >> 15)) & 0x7FFF))


cdef inline uint8_t joined(const uint8_t* marks) noexcept nogil:
    """Add up eight marks."""
    cdef uint64_t eight
    memcpy(&eight, marks, 8)
    return <uint8_t> ((eight * <uint64_t> 0x0101010101010101) >> 56)


cdef inline int pack_tile(const number* x, const void* limits, uint8_t* code) noexcept nogil:
    """Pack 16 columns into two bytes; return whether one is NaN (not 0)."""
    cdef const number* t = <const number*> limits
    cdef const int16_t* t16 = <const int16_t*> limits
    cdef uint8_t[TILE] marks
    cdef int nan = 0
    cdef int i
    if PYHASH_SSE2:
        if number is float:
            return pyhash_pack_16_f32(x, t, code)
        elif number is double:
            return pyhash_pack_16_f64(x, t, code)
    for i in range(TILE):
        if number is float or number is double:
            marks[i] = WEIGHTS[i] & -<uint8_t> (x[i] > t[i])
            nan |= x[i] != x[i]
        elif number is uint16_t:
            marks[i] = WEIGHTS[i] & -<uint8_t> (half_key(x[i]) > half_key(t[i]))
            nan |= (x[i] & 0x7FFF) > 0x7C00
        else:
            marks[i] = WEIGHTS[i] & -<uint8_t> (x[i] > t16[i])
    code[0] = joined(marks)
    code[1] = joined(marks + 8)
    return nan


cdef bint pack_rows(
    const number[:, :] rows, const uint8_t* limits, size_t limit_size, bint one_limit, uint8_t[:, ::1] codes
) noexcept nogil:
    """Pack all rows; return whether one holds NaN."""
    cdef Py_ssize_t bits = rows.shape[1], stride = rows.strides[1]
    cdef Py_ssize_t n_tiles = bits // TILE
    cdef Py_ssize_t whole = n_tiles * TILE
    cdef Py_ssize_t left = bits - whole
    cdef Py_ssize_t step = 0 if one_limit else TILE * limit_size  # bytes of limits from tile to tile
    cdef bint contiguous = stride == sizeof(number)
    cdef const char* row
    cdef Py_ssize_t i, j, tile, first_tile = 0
    cdef int nan = 0
    cdef number[TILE] gathered
    cdef uint8_t[2 * TILE * 8] repeated_limit
    cdef uint8_t[TILE * 8] last_limits
    cdef uint8_t[2] last_code
    if one_limit:
        for j in range(2 * TILE):
            memcpy(repeated_limit + j * limit_size, limits, limit_size)
        limits = repeated_limit
    # Columns after the last are 0 against a limit of 0: no bit, no NaN.
    memset(last_limits, 0, sizeof(last_limits))
    memcpy(last_limits, limits + n_tiles * step, left * limit_size)
    memset(gathered, 0, sizeof(gathered))
    for i in range(rows.shape[0]):
        row = <const char*> &rows[i, 0]
        if contiguous:
            if number is float:
                if avx2:
                    first_tile = n_tiles // 2 * 2
                    if first_tile:
                        nan |= pyhash_pack_32s_f32(
                            <const float*> row, <const float*> limits, 0 if one_limit else 2 * TILE, &codes[i, 0], n_tiles // 2
                        )
            for tile in range(first_tile, n_tiles):
                nan |= pack_tile(<const number*> row + tile * TILE, limits + tile * step, &codes[i, 2 * tile])
        else:
            for tile in range(n_tiles):
                for j in range(TILE):
                    gathered[j] = (<const number*> (row + (tile * TILE + j) * stride))[0]
                nan |= pack_tile(<const number*> gathered, limits + tile * step, &codes[i, 2 * tile])
        if left:
            for j in range(left):
                gathered[j] = (<const number*> (row + (whole + j) * stride))[0]
            for j in range(left, TILE):
                gathered[j] = 0
            nan |= pack_tile(<const number*> gathered, last_limits, last_code)
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


def use_avx2(bint wanted):
    """Take AVX2 where the CPU has it, or not; return whether it is taken now. It is from the start."""
    global avx2
    avx2 = wanted and pyhash_have_avx2()
    return avx2


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
