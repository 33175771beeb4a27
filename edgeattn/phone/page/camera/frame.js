// A frame of the camera as the model's input: the part of it that is seen, and its pixels as the model's numbers.

const GREY = 3; // of red, green, blue, and their mean

/** To the nearest integer; a half to the even one, as in Python. */
const even = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** The part of a frame that the model sees, as edgeattn/bundle/pictures.py resizes and crops, in the frame's pixels. */
export function part(frame, { width, height, edge, stretch, halves_to_even }) {
  if (stretch) return { left: 0, top: 0, width: frame.width, height: frame.height };
  const short = Math.min(frame.width, frame.height);
  const least = short * Math.max(height / frame.height, width / frame.width);
  const short_edge = edge === null || edge < least ? even(least) : edge;
  // The size of the whole frame when it is resized, and the corner of what is cut out of that.
  const across = Math.max(width, Math.trunc((short_edge * frame.width) / short));
  const down = Math.max(height, Math.trunc((short_edge * frame.height) / short));
  const rounded = halves_to_even ? even : Math.trunc;
  const [x, y] = [frame.width / across, frame.height / down];
  return { left: rounded((across - width) / 2) * x, top: rounded((down - height) / 2) * y, width: width * x, height: height * y };
}

/** Pixels in RGBA into `target`: by channel, `order` has the colour, and `table` the model's number of each byte of it. */
export function fill(target, pixels, { order, table, last }) {
  const count = pixels.length / 4;
  const [ofPixel, ofChannel] = last ? [order.length, 1] : [1, count];
  const grey = (at) => Math.round((pixels[at] + pixels[at + 1] + pixels[at + 2]) / 3);
  for (const [channel, colour] of order.entries()) {
    const numbers = table[channel];
    for (let pixel = 0; pixel < count; pixel++) {
      const byte = colour === GREY ? grey(4 * pixel) : pixels[4 * pixel + colour];
      target[pixel * ofPixel + channel * ofChannel] = numbers[byte];
    }
  }
}
