"""Kotlin snippets, compiled by Debian's Kotlin and run on stand-ins: a bitmap of pixels, and an interpreter that keeps
the bytes that it is given and answers with others. Neither Android nor LiteRT is among Debian's packages."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from browsers import program

from edgeattn.bundle.tensors import Arrays

STAND_INS = {
    "context": """package android.content
class Context { val assets = android.content.res.AssetManager() }
""",
    "assets": """package android.content.res
import java.io.Closeable
import java.io.FileDescriptor
import java.io.FileInputStream
class AssetManager { fun openFd(name: String) = AssetFileDescriptor(name) }
class AssetFileDescriptor(name: String) : Closeable {
    private val stream = FileInputStream(name)
    val fileDescriptor: FileDescriptor get() = stream.fd
    val startOffset get() = 0L
    val declaredLength get() = stream.channel.size()
    override fun close() = stream.close()
}
""",
    "bitmap": """package android.graphics
class Bitmap(val width: Int, val height: Int, val pixels: IntArray) {
    fun getPixels(into: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        pixels.copyInto(into, offset)
    }
    companion object {
        fun createScaledBitmap(b: Bitmap, width: Int, height: Int, filter: Boolean): Bitmap =
            if (b.width == width && b.height == height) b else throw IllegalArgumentException("it is resized")
        fun createBitmap(b: Bitmap, x: Int, y: Int, width: Int, height: Int): Bitmap =
            if (x == 0 && y == 0) b else throw IllegalArgumentException("it is cropped")
    }
}
""",
    "interpreter": """package org.tensorflow.lite
import java.io.File
import java.nio.ByteBuffer
interface Delegate
class Interpreter(model: ByteBuffer, options: Options) : AutoCloseable {
    class Options {
        fun setNumThreads(number: Int) = this
        fun setUseXNNPACK(use: Boolean) = this
        fun addDelegate(delegate: Delegate) = this
    }
    fun runSignature(inputs: Map<String, Any>, outputs: Map<String, Any>) {
        for ((name, value) in inputs) {
            val bytes = ByteArray((value as ByteBuffer).remaining())
            value.get(bytes)
            File("input-" + name).writeBytes(bytes)
        }
        for ((name, value) in outputs) (value as ByteBuffer).put(File("output-" + name).readBytes())
    }
    override fun close() {}
}
""",
    "delegate": """package org.tensorflow.lite.gpu
class GpuDelegate : org.tensorflow.lite.Delegate
""",
    "main": """import android.content.Context
import android.graphics.Bitmap
import java.io.File
fun main(words: Array<String>) {
    val rgb = File(words[1]).readBytes().map { it.toInt() and 255 }
    val pixels = IntArray(20 * 24) { (rgb[3 * it] shl 16) or (rgb[3 * it + 1] shl 8) or rgb[3 * it + 2] }
    val picture = Bitmap(24, 20, pixels)
    val found = when (words[0]) { CASES else -> throw IllegalArgumentException() }
    for ((label, score) in found) println("%.4f  %s".format(score, label))
}
""",
}


def compiled(programs: Mapping[str, str], folder: Path) -> Path:
    """All programs, each a package with its name; where Debian's packages are missing, the skip names them."""
    compiler, _ = program("kotlinc", package="kotlin"), program("java", package="default-jre-headless")
    sources, classes = folder / "kotlin", folder / "classes"
    sources.mkdir()
    cases = "; ".join(
        f'"{name}" -> {name}.Model(Context()).classify(picture)'
        for name, code in programs.items()
        if "picture: Bitmap" in code
    )
    for name, code in STAND_INS.items():
        (sources / f"{name}.kt").write_text(code.replace("CASES", cases))
    for name, code in programs.items():
        (sources / f"app_{name}.kt").write_text(f"package {name}\n{code}", encoding="utf-8")
    done = subprocess.run([compiler, sources, "-d", classes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return classes


def run(classes: Path, name: str, folder: Path, picture: Path, outputs: Arrays) -> str:
    """What a program prints, whose interpreter gives these ``outputs``; its input is in ``folder`` then."""
    for output, value in outputs.items():
        (folder / f"output-{output}").write_bytes(value.tobytes())
    libraries = f"{classes}:/usr/share/java/kotlin-stdlib.jar"
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", libraries, "MainKt", name, picture]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()
