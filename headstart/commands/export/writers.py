"""Who writes and runs each format. A format's libraries are imported only where it is used."""

from typing import assert_never

from headstart.commands.export.formats import Format, Writer


def writer_of(form: Format) -> Writer:
    """Return the module that knows a format.

    Raises:
        InputError: a package is missing.
    """
    form.check_packages()
    match form.name:
        case "keras":
            from headstart.commands.export import keras_file

            return keras_file
        case "savedmodel":
            from headstart.commands.export import saved_model

            return saved_model
        case "onnx":
            from headstart.commands.export import onnx_file

            return onnx_file
        case "openvino":
            from headstart.commands.export import openvino_file

            return openvino_file
        case "litert":
            from headstart.commands.export import litert_file

            return litert_file
        case _:
            assert_never(form.name)
