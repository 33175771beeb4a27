// The arrays that hold a tensor's numbers, by the tensor's type.

export const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  // As bits: not every browser has Float16Array.
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int32: Int32Array,
  int64: BigInt64Array,
};
