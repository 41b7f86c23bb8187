// float16 on a CPU.
#pragma once

using __half = _Float16;

inline float __half2float(__half number) { return number; }
inline __half __float2half(float number) { return __half(number); }
