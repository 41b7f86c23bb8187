// The CPU kernels for any machine.
#include <cmath>
#include <cstring>

#define MSDA_INSTRUCTION_SET portable
#include "kernel.h"
