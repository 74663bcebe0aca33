/* Evaluated in the page: the visible texts whose contrast with what lies behind them is below WCAG AA. */
(() => {
  const channels = (colour) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const [red, green, blue] = channels(colour).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return channels(colour)[3] === 255 || !node.parentElement ? colour : behind(node.parentElement);
  };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { parentElement: holder, data } = texts.currentNode;
    if (!data.trim() || !holder.checkVisibility() || holder.closest("script, :disabled, .visually-hidden, noscript")) {
      continue;
    }
    const [light, dark] = [luminance(getComputedStyle(holder).color), luminance(behind(holder))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) {
      poor.push(`${data.trim()}: ${ratio.toFixed(2)}`);
    }
  }
  return poor;
})();
