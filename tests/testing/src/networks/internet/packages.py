# Makes a package for pip and one for npm, in the folder and with the first part of their names that
# are named. It uses only the standard library.
import base64, hashlib, io, json, sys, tarfile, zipfile
folder, name = sys.argv[1:]
module, tool = f"{name}_agent", f"{name}-tool"

wheel = io.BytesIO()
info = f"{module}-1.0.dist-info"
files = {
    f"{module}.py": "def main():\n    print('installed by pip')\n",
    f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}-agent\nVersion: 1.0\n",
    f"{info}/WHEEL":
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{info}/entry_points.txt": f"[console_scripts]\n{name}-agent = {module}:main\n",
}
files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
with zipfile.ZipFile(wheel, "w") as archive:
    for file, text in files.items():
        archive.writestr(file, text)
open(f"{folder}/wheel", "wb").write(wheel.getvalue())

tarball = io.BytesIO()
package = {"name": tool, "version": "1.0.0", "bin": {tool: "tool.js"}}
with tarfile.open(fileobj=tarball, mode="w:gz") as archive:
    for file, text in {
        "package.json": json.dumps(package),
        "tool.js": "#!/usr/bin/env node\nconsole.log('installed by npm')\n",
    }.items():
        member = tarfile.TarInfo(f"package/{file}")
        member.size, member.mode = len(text), 0o755
        archive.addfile(member, io.BytesIO(text.encode()))
open(f"{folder}/tarball", "wb").write(tarball.getvalue())
digest = base64.b64encode(hashlib.sha512(tarball.getvalue()).digest()).decode()
dist = {
    "tarball": f"http://registry.test/{tool}/-/{tool}-1.0.0.tgz",
    "integrity": f"sha512-{digest}",
}
index = {
    "name": tool,
    "dist-tags": {"latest": "1.0.0"},
    "versions": {"1.0.0": package | {"dist": dist}},
}
open(f"{folder}/index", "w").write(json.dumps(index))
