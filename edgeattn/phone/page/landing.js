// The port and the token follow the #, which a browser does not send: over plain http nobody can read the token.

const [, port, token] = location.hash.match(/^#(\d{1,5})\/([\w-]+)$/) ?? [];
const show = (id) => (document.getElementById(id).hidden = false);
if (token) {
  document.getElementById("address").textContent = `https://${location.hostname}:${port}`;
  document.getElementById("go").href = `https://${location.hostname}:${port}/${token}/`;
  show("go");
} else {
  show("broken");
}
