#include "hamming/cpu/memory.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace pyhash {

void give_back_memory() {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

}  // namespace pyhash
