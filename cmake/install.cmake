# What `cmake --install` and `cpack` lay down: the program with its download module, its manual page and completions, and
# the library with what find_package(thimble) needs.
set(made ${CMAKE_BINARY_DIR}/manual)
add_custom_command(OUTPUT ${made}/thimble.1 ${made}/thimble.bash ${made}/_thimble ${made}/thimble.fish
  COMMAND ${CMAKE_COMMAND} -E make_directory ${made}
  COMMAND thimble --man > ${made}/thimble.1
  COMMAND thimble --completions bash > ${made}/thimble.bash
  COMMAND thimble --completions zsh > ${made}/_thimble
  COMMAND thimble --completions fish > ${made}/thimble.fish
  DEPENDS thimble VERBATIM)
add_custom_target(thimble_manual ALL DEPENDS ${made}/thimble.1)

install(TARGETS thimble RUNTIME DESTINATION bin)
install(TARGETS thimble_fetch_module LIBRARY DESTINATION lib/thimble)
install(FILES ${made}/thimble.1 DESTINATION share/man/man1)
install(FILES ${made}/thimble.bash DESTINATION share/bash-completion/completions RENAME thimble)
install(FILES ${made}/_thimble DESTINATION share/zsh/vendor-completions)
install(FILES ${made}/thimble.fish DESTINATION share/fish/vendor_completions.d)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION share/doc/thimble)

set_target_properties(libthimble PROPERTIES EXPORT_NAME thimble)
install(TARGETS libthimble EXPORT thimble ARCHIVE DESTINATION lib)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/thimble DESTINATION include)
install(EXPORT thimble NAMESPACE thimble:: FILE thimbleTargets.cmake DESTINATION lib/cmake/thimble)
include(CMakePackageConfigHelpers)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/thimbleConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/thimbleConfig.cmake ${CMAKE_BINARY_DIR}/thimbleConfigVersion.cmake
  DESTINATION lib/cmake/thimble)

# A package names the libraries that it needs, which dpkg finds for this machine's own architecture only.
if(CMAKE_CROSSCOMPILING)
  return()
endif()
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME thimble)
set(CPACK_PACKAGE_CONTACT "the thimble authors")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "train, fine-tune and run language models in the memory you have")
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS libedit2)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_STRIP_FILES ON)
include(CPack)
