# AArch64, cross-compiled by Debian's compiler against the sysroot that tools/arm64_sysroot makes. Programs of the build
# (discovery of tests, CTest) run in qemu's emulator of a CPU that has everything; THIMBLE_ARM64_CPU names another.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

set(THIMBLE_ARM64_SYSROOT ${CMAKE_CURRENT_LIST_DIR}/../build/sysroot/arm64 CACHE PATH "arm64 packages, unpacked")
set(THIMBLE_ARM64_CPU max CACHE STRING "qemu's name of the CPU that programs run on")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES THIMBLE_ARM64_SYSROOT)
get_filename_component(CMAKE_SYSROOT ${THIMBLE_ARM64_SYSROOT} ABSOLUTE)
if(NOT EXISTS ${CMAKE_SYSROOT}/usr/include)
  message(FATAL_ERROR "there is no sysroot in ${CMAKE_SYSROOT}: `./dev build arm64` makes it")
endif()
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu ${THIMBLE_ARM64_CPU} -L ${CMAKE_SYSROOT})

set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${CMAKE_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${CMAKE_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig)
