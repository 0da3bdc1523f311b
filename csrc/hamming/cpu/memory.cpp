#include "hamming/cpu/memory.h"

#include <fstream>
#include <limits>
#include <string>

namespace pyhash {

size_t available_memory() {
    std::ifstream file("/proc/meminfo");
    std::string key;
    size_t kilobytes = 0;
    while (file >> key >> kilobytes) {
        if (key == "MemAvailable:") return kilobytes * 1024;
        file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    return std::numeric_limits<size_t>::max();
}

}  // namespace pyhash
