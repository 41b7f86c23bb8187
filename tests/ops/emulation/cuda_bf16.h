// bfloat16 on a CPU: the upper half of a float, rounded to nearest, ties to even.
#pragma once

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 half) {
  const uint32_t whole = uint32_t(half.bits) << 16;
  float number;
  std::memcpy(&number, &whole, sizeof(number));
  return number;
}

inline __nv_bfloat16 __float2bfloat16(float number) {
  uint32_t whole;
  std::memcpy(&whole, &number, sizeof(whole));
  const uint32_t rounded = (whole + 0x7fff + ((whole >> 16) & 1)) >> 16;
  return {number != number ? uint16_t(0x7fff) : uint16_t(rounded)};
}
