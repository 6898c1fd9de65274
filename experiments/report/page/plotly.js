// plotly lies in the page as gzip in Ascii85, a third of its size: it is unpacked once the tables stand, and charts wait for it.
const NO_CHARTS = "This browser cannot unpack the charts (it lacks DecompressionStream, which browsers have had since 2023). The tables hold the same numbers.";
const plotly = new Promise((resolve) => { setTimeout(resolve); }).then(unpackPlotly);
plotly.then(() => { document.documentElement.dataset.charts = "yes"; }, () => { document.documentElement.dataset.charts = "no"; });

async function unpackPlotly() {
  const holder = document.getElementById("plotly");
  const stream = new Blob([ascii85Bytes(holder.textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = element("script", {}, await new Response(stream).text());
  holder.replaceWith(script);  // Runs at once: the page's security policy names the hash of this very text.
  if (!window.Plotly) throw new Error("plotly did not start");
}

// As Python's base64.a85encode writes it, but "v" for "<": nothing in the text can end its element.
function ascii85Bytes(encoded) {
  const text = encoded.replaceAll("v", "<").replaceAll("z", "!!!!!");
  const words = new DataView(new ArrayBuffer(4 * Math.ceil(text.length / 5)));
  for (let i = 0; i < text.length; i += 5) {
    let word = 0;
    for (let k = i; k < i + 5; k++) word = 85 * word + (k < text.length ? text.charCodeAt(k) - 33 : 84);
    words.setUint32((4 * i) / 5, word);
  }
  return words.buffer.slice(0, Math.floor((4 * text.length) / 5));
}
