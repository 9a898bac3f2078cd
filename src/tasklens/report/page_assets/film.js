// The playing map as a film.
"use strict";

const FILM_TOP = 34; // height of the title of a film, in pixels of the page
let recorder = null;

/** Record the map while it plays from its first picture, until it stops, and save it as WebM. */
function film() {
  if (recorder) return void play(false);
  const { canvas } = cloud, ratio = cloud.ratio(), top = FILM_TOP * ratio, name = fileName(look.map, "webm");
  const picture = make("canvas", { width: canvas.width, height: canvas.height + top }), pen = picture.getContext("2d"), chunks = [];
  const paint = () => {
    pen.fillStyle = colors().paper;
    pen.fillRect(0, 0, picture.width, picture.height);
    pen.drawImage(canvas, 0, top);
    pen.fillStyle = colors().ink;
    pen.font = `600 ${16 * ratio}px ${FONT}`;
    pen.fillText(`${look.state}, ${stepName(look.step)}: ARI ${fixed(theScores()[look.state]?.ari?.[look.step]?.[0])} against the task`, 10 * ratio, top * 0.68);
  };
  recorder = new MediaRecorder(picture.captureStream(30), { mimeType: "video/webm", videoBitsPerSecond: 8_000_000 });
  recorder.ondataavailable = ({ data }) => chunks.push(data);
  recorder.onstop = () => {
    recorder = null;
    fill("save-film", "film as WebM");
    download(name, new Blob(chunks, { type: "video/webm" }));
  };
  fill("save-film", "end the film");
  play(false);
  showFrame(0);
  play(true);
  const frame = () => {
    paint();
    if (playing) requestAnimationFrame(frame);
    else setTimeout(() => { paint(); recorder.stop(); }, 500); // the last checkpoint is seen for a moment
  };
  recorder.start();
  frame();
}
