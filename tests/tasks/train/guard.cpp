// A guard that says yes: torch built without CUDA has none, and then refuses even to index a fake
// tensor that claims to be there. It counts no devices, so that nothing else believes in a GPU.
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

constexpr auto CUDA = c10::DeviceType::CUDA;

c10::Stream first() { return c10::Stream(c10::Stream::DEFAULT, {CUDA, 0}); }

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return CUDA; }
  c10::Device exchangeDevice(c10::Device) const override { return {CUDA, 0}; }
  c10::Device getDevice() const override { return {CUDA, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return first(); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 0; }
};

const Guard guard;
const c10::impl::DeviceGuardImplRegistrar registrar(CUDA, &guard);

}  // namespace
