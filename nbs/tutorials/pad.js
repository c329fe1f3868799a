// A picture that can be clicked, or a ground of 28×28 pixels to paint on. Used by explorer.ipynb.
const SIZE = 28;

function draw(context, from, to) {
  context.strokeStyle = "white";
  context.lineWidth = 2.2;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const scale = model.get("scale"), paint = model.get("paint");
  let last = null;   // where the mouse was while its button is down

  canvas.className = paint ? "tt-paint" : "tt-picture";
  canvas.style.cssText = "image-rendering:pixelated;border:1px solid #888;cursor:crosshair;touch-action:none";

  function resize(width, height) {
    canvas.width = width;
    canvas.height = height;
    canvas.style.width = width*scale + "px";
    canvas.style.height = height*scale + "px";
  }
  function clear() {
    resize(SIZE, SIZE);
    context.fillStyle = "black";
    context.fillRect(0, 0, SIZE, SIZE);
  }
  function show() {
    const image = new Image();
    image.onload = () => { resize(image.width, image.height); context.drawImage(image, 0, 0); };
    image.src = model.get("picture");
  }
  function place(event) { // in pixels of the picture
    const box = canvas.getBoundingClientRect();
    const left = box.left + canvas.clientLeft, top = box.top + canvas.clientTop;   // inside the border
    return [(event.clientX - left)/scale, (event.clientY - top)/scale];
  }
  function send(name, value) {
    model.set(name, value);
    model.save_changes();
  }
  function sendPixels() {
    const data = context.getImageData(0, 0, SIZE, SIZE).data;
    send("pixels", Array.from({ length: SIZE*SIZE }, (_, i) => data[4*i]));
  }

  canvas.addEventListener("pointerdown", event => {
    last = place(event);
    if (!paint) send("clicked", last);
  });
  canvas.addEventListener("pointermove", event => {
    if (!paint || !last || !event.buttons) return;
    const now = place(event);
    draw(context, last, now);
    last = now;
    sendPixels();
  });
  canvas.addEventListener("pointerup", () => { last = null; if (paint) sendPixels(); });
  model.on("change:picture", show);
  model.on("change:cleared", clear);
  if (paint) clear(); else show();
  el.append(canvas);
}

export default { render };
