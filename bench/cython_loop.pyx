# cython: language_level=3, boundscheck=False, wraparound=False
"""The loop people write in Cython: one query, one code after another, the compiler's population count."""

cdef extern from *:
    """
    #define bit_count(x) __builtin_popcountll(x)
    """
    int bit_count(unsigned long long x) nogil


def distances(const unsigned long long[:, ::1] words, const unsigned long long[::1] query, int[::1] out):
    """Write the distance of each row of words to the query."""
    cdef Py_ssize_t i, w
    cdef int distance
    with nogil:
        for i in range(words.shape[0]):
            distance = 0
            for w in range(words.shape[1]):
                distance += bit_count(words[i, w] ^ query[w])
            out[i] = distance
