# Makes a package for pip and one for npm in the folder that is named. It uses only the standard
# library.
import base64, hashlib, io, json, sys, tarfile, zipfile
folder = sys.argv[1]

wheel = io.BytesIO()
info = "tiny_agent-1.0.dist-info"
files = {
    "tiny_agent.py": "def main():\n    print('installed by pip')\n",
    f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-agent\nVersion: 1.0\n",
    f"{info}/WHEEL":
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{info}/entry_points.txt": "[console_scripts]\ntiny-agent = tiny_agent:main\n",
}
files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
with zipfile.ZipFile(wheel, "w") as archive:
    for name, text in files.items():
        archive.writestr(name, text)
open(f"{folder}/wheel", "wb").write(wheel.getvalue())

tarball = io.BytesIO()
package = {"name": "tiny-tool", "version": "1.0.0", "bin": {"tiny-tool": "tool.js"}}
with tarfile.open(fileobj=tarball, mode="w:gz") as archive:
    for name, text in {
        "package.json": json.dumps(package),
        "tool.js": "#!/usr/bin/env node\nconsole.log('installed by npm')\n",
    }.items():
        member = tarfile.TarInfo(f"package/{name}")
        member.size, member.mode = len(text), 0o755
        archive.addfile(member, io.BytesIO(text.encode()))
open(f"{folder}/tarball", "wb").write(tarball.getvalue())
digest = base64.b64encode(hashlib.sha512(tarball.getvalue()).digest()).decode()
dist = {
    "tarball": "http://registry.test/tiny-tool/-/tiny-tool-1.0.0.tgz",
    "integrity": f"sha512-{digest}",
}
index = {
    "name": "tiny-tool",
    "dist-tags": {"latest": "1.0.0"},
    "versions": {"1.0.0": package | {"dist": dist}},
}
open(f"{folder}/index", "w").write(json.dumps(index))
