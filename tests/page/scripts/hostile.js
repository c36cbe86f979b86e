$("#kernels").open = true; await pause();
key($("#roof .chart"), "ArrowRight"); await pause();
log.text = document.body.innerText.includes("<script>alert");
log.scripts = document.scripts.length;
